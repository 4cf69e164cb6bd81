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
