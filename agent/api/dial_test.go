package api

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestDial(t *testing.T) {
	for _, cause := range []error{nil, errors.New("connection\nrefused"), errors.New(strings.Repeat("long", 1000))} {
		host, agent := net.Pipe()
		to := netip.MustParseAddrPort("[::1]:80")
		done := make(chan error)
		go func() {
			got, names, err := ReadDial(agent)
			if err == nil && (got != to || names) {
				err = errors.New("not the address: " + got.String())
			}
			done <- errors.Join(err, AnswerDial(agent, cause))
		}()
		if err := Dial(host, to); (err == nil) != (cause == nil) || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("answer %v: %v", cause, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// answer takes all and says what it is.
type answer struct{ io.Reader }

func (answer) Write(p []byte) (int, error) { return len(p), nil }

func FuzzDialAnswer(f *testing.F) {
	for _, s := range []string{"OK\n", "ERR no\n", "ERR \n", "OK", "\n", strings.Repeat("x", 300), "OK\nmore"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rest := strings.NewReader(text)
		err := Dial(answer{rest}, netip.MustParseAddrPort("127.0.0.1:1"))
		if line, _, ok := strings.Cut(text, "\n"); (err == nil) != (ok && line == "OK") {
			t.Errorf("%q: %v", text, err)
		}
		if err == nil && rest.Len() != len(text)-len("OK\n") {
			t.Error("bytes of the stream were taken")
		}
	})
}

func FuzzNameMessage(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 1, 0, 2, 'h', 'i'})
	f.Add([]byte{0, 0, 0, 1, 0, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, p []byte) {
		var m, again NameMessage
		if m.Read(bytes.NewReader(p)) != nil {
			return
		}
		var out bytes.Buffer
		if err := errors.Join(m.Write(&out), again.Read(&out)); err != nil || m.ID != again.ID || m.Stream != again.Stream || !bytes.Equal(m.Message, again.Message) {
			t.Errorf("%+v, %+v: %v", m, again, err)
		}
	})
}
