package api

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// MaxStreamID is the longest stream id in bytes.
const MaxStreamID = 128

const (
	streamVerb   = "STREAM "
	streamScheme = "stream://"
)

// ErrStreamID says that a stream id is empty, too long, or has a character
// other than letters, digits, dot, underscore and minus.
var ErrStreamID = errors.New("invalid stream id")

// OpenStream names conn, a fresh connection to [PortStream], so that Create
// and Exec can refer to it. Afterwards conn carries the stream's raw bytes:
// for standard input from the host, where half-closing it closes the process's
// input; for output to the host, half-closed by the agent after the last byte.
// A terminal has one stream for each direction, too.
//
// It may be called before or up to ten seconds after the request that names
// the stream.
func OpenStream(conn io.Writer, id string) error {
	if !validStreamID(id) {
		return fmt.Errorf("open stream %q: %w", id, ErrStreamID)
	}
	if _, err := io.WriteString(conn, streamVerb+id+"\n"); err != nil {
		return fmt.Errorf("open stream %s: %w", id, err)
	}
	return nil
}

// StreamURL is how requests refer to the stream id.
func StreamURL(id string) string { return streamScheme + id }

// plainNewlines ends the URL of a terminal's output that has no carriage
// returns before newlines.
const plainNewlines = "?newlines=plain"

// PlainStreamURL is StreamURL for the output of a terminal without carriage
// returns before newlines: the terminal that shows it adds them.
func PlainStreamURL(id string) string { return StreamURL(id) + plainNewlines }

// HasPlainNewlines tells whether url is of [PlainStreamURL].
func HasPlainNewlines(url string) bool { return strings.HasSuffix(url, plainNewlines) }

// ParseStreamURL is the inverse of [StreamURL] and [PlainStreamURL].
func ParseStreamURL(url string) (id string, err error) {
	id, ok := strings.CutPrefix(strings.TrimSuffix(url, plainNewlines), streamScheme)
	if !ok || !validStreamID(id) {
		return "", fmt.Errorf("parse stream url %q: %w", url, ErrStreamID)
	}
	return id, nil
}

// ReadStreamID is the agent's side of [OpenStream]. It reads byte by byte, so
// that nothing behind the line is taken.
func ReadStreamID(r io.Reader) (string, error) {
	line, err := readLine(r, len(streamVerb)+MaxStreamID)
	if err != nil {
		return "", fmt.Errorf("read stream id: %w", err)
	}
	id, ok := strings.CutPrefix(line, streamVerb)
	if !ok || !validStreamID(id) {
		return "", fmt.Errorf("read stream id: %w: %q", ErrStreamID, line)
	}
	return id, nil
}

func readLine(r io.Reader, limit int) (string, error) {
	var line []byte
	var b [1]byte
	for len(line) <= limit {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return "", err
		}
		if b[0] == '\n' {
			return string(line), nil
		}
		line = append(line, b[0])
	}
	return "", fmt.Errorf("line is over %d bytes", limit)
}

func validStreamID(id string) bool {
	if id == "" || len(id) > MaxStreamID {
		return false
	}
	for i := range len(id) {
		if !validStreamByte(id[i]) {
			return false
		}
	}
	return true
}

func validStreamByte(c byte) bool {
	switch {
	case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		return true
	}
	return c == '.' || c == '_' || c == '-'
}
