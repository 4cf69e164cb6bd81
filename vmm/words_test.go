package vmm

import (
	"fmt"
	"strings"
	"testing"
)

// say prints n lines.
func say(c *Console, what string, n int) {
	for i := range n {
		fmt.Fprintf(c, "[    1.%06d] %s %d\r\n", i, what, i)
	}
}

// TestLastWords checks that the beginning of an oops is not lost behind its trace.
func TestLastWords(t *testing.T) {
	for name, test := range map[string]struct {
		speak func(c *Console)
		want  []string // among the lines
		lines int
		never string
	}{
		"nothing": {func(*Console) {}, []string{""}, 1, "[...]"},
		"little":  {func(c *Console) { say(c, "fine", 3) }, []string{"fine 0", "fine 2"}, 3, "[...]"},
		"no oops": {func(c *Console) { say(c, "fine", 99) }, []string{"fine 87", "fine 98"}, wordsEnd, "fine 86"},
		"short oops": {func(c *Console) {
			say(c, "fine", 99)
			fmt.Fprint(c, "[ 2.0] Kernel panic - not syncing: of no use\r\n[ 2.0] CPU: 0\r\n")
		}, []string{"not syncing: of no use", "CPU: 0"}, wordsEnd, "[...]"},
		"long oops": {func(c *Console) {
			say(c, "fine", 99)
			fmt.Fprint(c, "[ 2.0] BUG: kernel NULL pointer dereference\r\n[ 2.0] Oops: 0002 [#1] SMP\r\n[ 2.0] RIP: 0010:here\r\n")
			say(c, "trace", 60)
			fmt.Fprint(c, "[ 2.0] Kernel panic - not syncing: Fatal exception\r\n")
			say(c, "panic", 20)
		}, []string{"BUG: kernel NULL", "Oops: 0002", "RIP: 0010:here", "trace 0", "[...]", "panic 19"}, wordsBegin + 1 + wordsEnd, "fine"},
		"an old one": {func(c *Console) {
			fmt.Fprint(c, "BUG: old\n")
			say(c, "fine", oopsLines)
			fmt.Fprint(c, "Kernel panic - not syncing: new\n")
			say(c, "trace", 30)
		}, []string{"syncing: new", "[...]", "trace 29"}, wordsBegin + 1 + wordsEnd, "old"},
		"the agent's": {func(c *Console) {
			fmt.Fprint(c, "panic: runtime error: index out of range\n")
			say(c, "goroutine", 40)
			fmt.Fprint(c, "[ 2.0] Kernel panic - not syncing: Attempted to kill init!\r\n")
		}, []string{"panic: runtime error", "Attempted to kill init!"}, wordsBegin + 1 + wordsEnd, "goroutine 20"},
	} {
		t.Run(name, func(t *testing.T) {
			var c Console
			test.speak(&c)
			got := c.LastWords()
			for _, want := range test.want {
				if !strings.Contains(got, want) {
					t.Errorf("without %q", want)
				}
			}
			if n := strings.Count(got, "\n") + 1; n != test.lines || strings.Contains(got, test.never) {
				t.Errorf("%d lines, want %d without %q:\n%s", n, test.lines, test.never, got)
			}
		})
	}
}

// TestLastWordsAreFew has a guest that says much, all of it alarming.
func TestLastWordsAreFew(t *testing.T) {
	for _, storm := range []string{"BUG: " + strings.Repeat("x", 5000) + "\n", "Oops: \n", strings.Repeat("BUG: ", 4000), "\n", "\r\n"} {
		var c Console
		for range 50 {
			fmt.Fprint(&c, storm)
		}
		if got := c.LastWords(); len(got) > (wordsBegin+wordsEnd+1)*(wordsLine+1) {
			t.Errorf("%.10q: %d bytes", storm, len(got))
		}
	}
}
