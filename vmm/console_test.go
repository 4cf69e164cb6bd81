package vmm

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestConsoleKeepsTheEnd(t *testing.T) {
	var c Console
	var all strings.Builder
	for i := range 30000 {
		line := fmt.Sprintf("line %d\n", i)
		all.WriteString(line)
		if n, err := c.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	s := all.String()
	if got := string(c.Bytes()); got != s[len(s)-consoleSize:] {
		t.Errorf("kept %d bytes that are not the end", len(got))
	}
	if _, err := c.Write([]byte(s)); err != nil || string(c.Bytes()) != s[len(s)-consoleSize:] {
		t.Error("a write larger than the ring is not kept to its end")
	}
}

func TestConsoleTail(t *testing.T) {
	var c Console
	if got := c.Tail(3, 100); got != "" {
		t.Errorf("empty console: %q", got)
	}
	c.Write([]byte("one\ntwo\r\nthree\nfour\r\n\n"))
	for _, test := range []struct {
		n, limit int
		want     string
	}{
		{1, 100, "four"}, {2, 100, "three\nfour"}, {99, 100, "one\ntwo\r\nthree\nfour"},
		{99, 12, "three\nfour"}, {99, 2, "ur"}, {0, 100, ""},
	} {
		if got := c.Tail(test.n, test.limit); got != test.want {
			t.Errorf("tail of %d lines in %d bytes: %q, want %q", test.n, test.limit, got, test.want)
		}
	}
}

func TestConsolePanicked(t *testing.T) {
	var c Console
	c.Write([]byte("Kernel panic - not"))
	if c.Panicked() {
		t.Error("panicked too early")
	}
	c.Write([]byte(" syncing: VFS"))
	if !c.Panicked() {
		t.Error("panic was not seen")
	}
}

func TestLimiter(t *testing.T) {
	var l limiter
	now := time.Unix(1000, 0)
	if ok, _ := l.allow(now); !ok {
		t.Error("first record was dropped")
	}
	for range 5 {
		if ok, _ := l.allow(now); ok {
			t.Error("storm was let through")
		}
	}
	if ok, dropped := l.allow(now.Add(logInterval)); !ok || dropped != 5 {
		t.Errorf("later: %v, %d dropped; want 5", ok, dropped)
	}
}
