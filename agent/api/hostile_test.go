package api

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// liar answers requests by hand. Its frames are ttrpc's: length and stream as
// big-endian 32-bit numbers, type (1 is a request, 2 a response), flags.
type liar struct {
	t    *testing.T
	conn net.Conn
}

// request reads a request and returns its stream.
func (l liar) request() uint32 {
	var h [10]byte
	if _, err := io.ReadFull(l.conn, h[:]); err != nil {
		return 0 // the client has gone
	}
	if _, err := io.CopyN(io.Discard, l.conn, int64(binary.BigEndian.Uint32(h[:]))); err != nil {
		return 0
	}
	return binary.BigEndian.Uint32(h[4:])
}

func (l liar) frame(length, stream uint32, kind byte, payload []byte) {
	h := binary.BigEndian.AppendUint32(nil, length)
	h = binary.BigEndian.AppendUint32(h, stream)
	_, _ = l.conn.Write(append(append(h, kind, 0), payload...)) // the client may have gone
}

// reply answers with a message, or an error.
func (l liar) reply(stream uint32, m proto.Message, st *status.Status) {
	payload, err := proto.Marshal(m)
	if err != nil {
		l.t.Error(err)
	}
	p, err := proto.Marshal(&ttrpc.Response{Status: st, Payload: payload})
	if err != nil {
		l.t.Error(err)
	}
	l.frame(uint32(len(p)), stream, 2, p)
}

var hello = &HelloResponse{Version: Version}

// TestLyingAgent has an agent break the protocol. Each ends in an error, at the
// latest when the caller has waited long enough, or with the true answer.
func TestLyingAgent(t *testing.T) {
	for _, c := range []struct {
		name string
		lie  func(l liar, stream uint32)
		want string // of the error; "" is none
	}{
		{"honest", func(l liar, s uint32) { l.reply(s, hello, nil) }, ""},
		{"newer", func(l liar, s uint32) { l.reply(s, &HelloResponse{Version: "2\x1b[31m"}, nil) }, `version "2?[31m"`},
		{"no version", func(l liar, s uint32) { l.reply(s, &HelloResponse{}, nil) }, "version"},
		{"too long", func(l liar, s uint32) { l.frame(math.MaxUint32, s, 2, nil) }, "closed"},
		{"as long as may be", func(l liar, s uint32) { l.frame(4<<20, s, 2, make([]byte, 4<<20)) }, "proto"},
		{"no message", func(l liar, s uint32) { l.frame(4, s, 2, []byte("\xff\xff\xff\xff")) }, "proto"},
		{"cut short", func(l liar, s uint32) { l.frame(100, s, 2, []byte("short")); l.conn.Close() }, "closed"},
		{"hangs up", func(l liar, _ uint32) { l.conn.Close() }, "closed"},
		{"doubled", func(l liar, s uint32) { l.reply(s, hello, nil); l.reply(s, hello, nil) }, "second"},
		{"for another", func(l liar, s uint32) { l.reply(s+2, hello, nil); l.reply(s, hello, nil) }, "closed"},
		{"a request", func(l liar, s uint32) { l.frame(0, s+1, 1, nil); l.reply(s, hello, nil) }, "closed"},
		{"of an unknown type", func(l liar, s uint32) { l.frame(0, s, 77, nil); l.reply(s, hello, nil) }, "closed"},
		{"late", func(l liar, s uint32) { time.Sleep(2 * patience); l.reply(s, hello, nil) }, "deadline"},
		{"never", func(liar, uint32) {}, "deadline"},
		{"with an ugly error", func(l liar, s uint32) {
			l.reply(s, hello, &status.Status{Code: int32(codes.NotFound), Message: "\x1b[2Jgone\r\n" + strings.Repeat("x", 1<<20)})
		}, "?[2Jgone? xxx"},
		{"with a code that is none", func(l liar, s uint32) { l.reply(s, hello, &status.Status{Code: -7, Message: "odd"}) }, "odd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer theirs.Close()
			l := liar{t, theirs}
			go func() {
				if s := l.request(); s != 0 {
					c.lie(l, s)
				}
				_, _ = io.Copy(io.Discard, theirs) // whatever else it is asked
			}()
			client := NewClient(ours, nil)
			defer client.Close()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := client.Hello(ctx, "", nil, nil)
			if c.want == "second" { // the first was answered, or lost with the connection
				_, err = client.Hello(ctx, "", nil, nil)
				c.want = "closed"
			}
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want == "closed" && (err == nil || errors.Is(err, context.DeadlineExceeded)):
				t.Errorf("the call went on: %v", err) // whether it ended by the cause or the connection's end is chance
			case c.want != "" && c.want != "closed" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%.200v, want %q", err, c.want)
			case err != nil && (len(err.Error()) > mostError+100 || strings.ContainsAny(err.Error(), "\x1b\r\n")):
				t.Errorf("%d bytes, %.100q", len(err.Error()), err)
			}
		})
	}
}

// patience is the caller's.
const patience = 500 * time.Millisecond

// TestLateReplyHarmsNobody lets the answer to a call that was given up come in the
// middle of the next one.
func TestLateReplyHarmsNobody(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	l := liar{t, theirs}
	go func() {
		first := l.request()
		second := l.request()
		l.reply(first, &HelloResponse{Version: "late"}, nil)
		l.reply(second, hello, nil)
	}()
	client := NewClient(ours, nil)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience/5)
	defer cancel()
	if _, err := client.Hello(ctx, "", nil, nil); !errors.Is(err, context.DeadlineExceeded) && grpcstatus.Code(err) != codes.DeadlineExceeded {
		t.Errorf("first call: %v", err)
	}
	if _, err := client.Hello(t.Context(), "", nil, nil); err != nil {
		t.Errorf("second call: %v", err)
	}
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "plain": "plain", "a\tb\nc": "a b c", "\x00\x1b[0m\x7f\u009b": "??[0m??", "\xff": "?", "äöü€": "äöü", "0123456789": "01234567", "\u202eabc": "?abc",
	} {
		if got := Printable(text, 8); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
