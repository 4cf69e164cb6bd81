package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestFramesKeepKindAndBytes(t *testing.T) {
	var stream bytes.Buffer
	frames := []struct {
		kind    Kind
		payload []byte
	}{
		{KindStdout, []byte("a\x00b\n")},
		{KindStdin, []byte{}},
		{KindStderr, bytes.Repeat([]byte{0xff}, MaxPayload)},
	}
	for _, frame := range frames {
		if err := Write(&stream, frame.kind, frame.payload); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range frames {
		kind, payload, err := Read(&stream)
		if err != nil {
			t.Fatal(err)
		}
		if kind != want.kind || !bytes.Equal(payload, want.payload) {
			t.Errorf("got kind %d with %d bytes, want %d with %d", kind, len(payload), want.kind, len(want.payload))
		}
	}
	if _, _, err := Read(&stream); err != io.EOF {
		t.Errorf("after the last frame: %v, want EOF", err)
	}
}

func TestReadRefusesBrokenFrames(t *testing.T) {
	tooLong := []byte{byte(KindStdout), 0xff, 0xff, 0xff, 0xff}
	if _, _, err := Read(bytes.NewReader(tooLong)); err == nil {
		t.Error("a length of 4 GiB was accepted")
	}
	cutShort := []byte{byte(KindStdout), 0, 0, 0, 9, 'x'}
	if _, _, err := Read(bytes.NewReader(cutShort)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut frame: %v, want unexpected EOF", err)
	}
	if err := Write(io.Discard, KindStdout, make([]byte, MaxPayload+1)); err == nil {
		t.Error("a payload over the limit was written")
	}
}
