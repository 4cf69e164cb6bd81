package oci

import (
	"errors"
	"testing"
)

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		output string
		exit   error
		good   bool
	}{
		{"TAP version 13\nok 1 - a\n1..1\n", nil, true},
		{"", nil, true},
		{"ok 1 - a\nnot ok 2 - b\n", nil, false},
		{"  not ok 1 - nested\n", nil, false},
		{"TAP version 13\n  ---\n  {\n    \"error\": \"hooks out of order\"\n  }\n1..0\n", nil, false},
		{"ok 1 - refused\n  {\n    \"error\": \"exit status 1\"\n  }\n", nil, true},
		{"ok 1 - a\n", errors.New("exit status 1"), false},
	} {
		if err := verdict(c.output, c.exit); (err == nil) != c.good {
			t.Errorf("verdict of %q, %v: %v", c.output, c.exit, err)
		}
	}
}
