package vmm

import (
	"bytes"
	"strings"
)

// How much of the console are the guest's last words. All of it is up to the guest.
const (
	wordsBegin = 12  // lines from the beginning of an oops
	wordsEnd   = 12  // and of the end
	wordsLine  = 256 // bytes of a line
	oopsLines  = 100 // a mark within so many lines of the one before is of the same oops
)

// oopsMarks are in the lines that say what went wrong: of Linux, and of the Go
// runtime when it is the agent that breaks down.
var oopsMarks = [][]byte{
	panicMark, []byte("BUG: "), []byte("Oops: "), []byte("kernel BUG at "), []byte("general protection fault"),
	[]byte("panic: "), []byte("fatal error: "),
}

// LastWords are the last lines of what the guest's kernel has printed. If it broke
// down, and said more than these about it, the first lines of that come before.
func (c *Console) LastWords() string {
	lines := bytes.Split(bytes.TrimRight(c.Bytes(), "\r\n"), []byte("\n"))
	end := max(0, len(lines)-wordsEnd)
	begin, until := end, end // without an oops there is nothing before the end
	if oops := lastOops(lines); oops >= 0 && oops < end {
		begin, until = oops, min(oops+wordsBegin, end)
	}
	var b strings.Builder
	writeWords(&b, lines[begin:until])
	if until < end {
		b.WriteString("[...]\n")
	}
	writeWords(&b, lines[end:])
	return strings.TrimSuffix(b.String(), "\n")
}

// lastOops is where the last one begins, -1 without any.
func lastOops(lines [][]byte) int {
	begin, last := -1, 0
	for i, line := range lines {
		if !marked(line) {
			continue
		}
		if begin < 0 || i-last > oopsLines {
			begin = i
		}
		last = i
	}
	return begin
}

func marked(line []byte) bool {
	for _, mark := range oopsMarks {
		if bytes.Contains(line, mark) {
			return true
		}
	}
	return false
}

func writeWords(b *strings.Builder, lines [][]byte) {
	for _, line := range lines {
		b.Write(line[:min(len(line), wordsLine)])
		b.WriteByte('\n')
	}
}
