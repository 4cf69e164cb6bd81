package guestimage

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
)

func TestWriteInitramfsHoldsTheAgentAndNothingElse(t *testing.T) {
	agent := strings.Repeat("agent", 1001) // no multiple of cpio's padding
	var image bytes.Buffer
	if err := WriteInitramfs(&image, strings.NewReader(agent), int64(len(agent))); err != nil {
		t.Fatal(err)
	}
	archive := cpio.NewReader(&image)
	header, err := archive.Next()
	if err != nil {
		t.Fatal(err)
	}
	if header.Name != "init" || header.Mode != agentMode {
		t.Errorf("entry is %q with mode %v, want init with %#o", header.Name, header.Mode, agentMode)
	}
	content, err := io.ReadAll(archive)
	if err != nil {
		t.Fatal(err)
	}
	if string(content) != agent {
		t.Errorf("init has %d bytes and differs from the agent's %d", len(content), len(agent))
	}
	if header, err := archive.Next(); err != io.EOF {
		t.Errorf("there is more than init: %v, %v", header, err)
	}
}

func TestWriteInitramfsIsReproducible(t *testing.T) {
	var first, second bytes.Buffer
	for _, image := range []*bytes.Buffer{&first, &second} {
		if err := WriteInitramfs(image, strings.NewReader("agent"), 5); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("equal agents gave different images")
	}
	if first.Len()%4 != 0 {
		t.Errorf("image has %d bytes, not a multiple of 4 (newc)", first.Len())
	}
}

func TestWriteInitramfsRefusesBrokenAgents(t *testing.T) {
	if err := WriteInitramfs(io.Discard, strings.NewReader(""), 0); !errors.Is(err, ErrNoAgent) {
		t.Errorf("empty agent: %v, want ErrNoAgent", err)
	}
	err := WriteInitramfs(io.Discard, strings.NewReader("short"), 6)
	if !errors.Is(err, io.EOF) {
		t.Errorf("agent shorter than its size: %v, want EOF", err)
	}
}
