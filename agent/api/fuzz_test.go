package api

import (
	"context"
	"net"
	"testing"
	"time"
)

// FuzzAgentReplies has an agent send anything once it was greeted: the call ends.
func FuzzAgentReplies(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x05\x00\x00\x00\x01\x02\x00\x12\x03\x0a\x011"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x01\x02\x00"))
	f.Add([]byte("\xff\xff\xff\xff\x00\x00\x00\x01\x02\x00"))
	f.Fuzz(func(t *testing.T, reply []byte) {
		ours, theirs := net.Pipe()
		go func() {
			l := liar{t, theirs}
			l.request()
			_, _ = theirs.Write(reply)
			theirs.Close()
		}()
		c := NewClient(ours, nil)
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := c.Hello(ctx, "", nil, nil); ctx.Err() != nil {
			t.Fatalf("it takes long: %v", err)
		}
	})
}
