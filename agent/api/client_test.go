package api

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// chatty is a guest that warns as it likes.
type chatty struct {
	MachineService
	lines []string
	err   error
}

func (c chatty) Warnings(context.Context, *WarningsRequest) (*WarningsResponse, error) {
	return &WarningsResponse{Lines: c.lines}, c.err
}

func TestWarningsOfAHostileGuest(t *testing.T) {
	many := make([]string, 1000)
	many[0] = "evil\x1b[2J\n" + strings.Repeat("x", 1<<20)
	got := (&Client{Machine: chatty{lines: many}}).Warnings(t.Context())
	if len(got) != mostWarnings || len(got[0]) != mostWarning || !strings.HasPrefix(got[0], "evil?[2J x") {
		t.Errorf("%d lines, %d bytes, %.20q", len(got), len(got[0]), got[0])
	}
	if got := (&Client{Machine: chatty{err: errors.New("no")}}).Warnings(t.Context()); got != nil {
		t.Errorf("%q", got)
	}
}
