package oci

import (
	"errors"
	"testing"
)

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		output string
		exit   error
		want   string
	}{
		{"TAP version 13\nok 1 - a\n1..1\n", nil, ""},
		{"", nil, ""},
		{"ok 1 - a\nnot ok 2 - b\nnot ok 3 - c d\n", nil, "b; c d"},
		{"  not ok 1 - nested\n", nil, "nested"},
		{"not ok\n", nil, "an assertion without a text"},
		{"TAP version 13\n  ---\n  {\n    \"error\": \"hooks out of order\"\n  }\n1..0\n", nil, `"error": "hooks out of order"`},
		{"ok 1 - refused\n  {\n    \"error\": \"exit status 1\"\n  }\n", nil, ""},
		{"ok 1 - a\n", errors.New("exit status 1"), "the program ended early: exit status 1"},
	} {
		got := ""
		if err := verdict(c.output, c.exit); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("verdict of %q, %v: %s", c.output, c.exit, got)
		}
	}
}
