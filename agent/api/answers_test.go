package api

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// texts are the fields of a guest's answers that could name something of the host, or do
// something to who reads them, and what becomes of each. What is not asked for by the
// host is answered to nobody.
var texts = map[string]string{
	"HelloResponse.version":        "is compared with ours",
	"HelloResponse.kernel_release": "not read",
	"Stage.name":                   "printable, of the first few",
	"Process.tty":                  "printable",
	"Process.command":              "printable",
	"WarningsResponse.lines":       "printable, of the first few",
	"ProcessInfo.info":             "not read",
	"StateResponse.id":             "not read", // only the pid is
	"StateResponse.bundle":         "not read",
	"StateResponse.stdin":          "not read",
	"StateResponse.stdout":         "not read",
	"StateResponse.stderr":         "not read",
	"StateResponse.exec_id":        "not read",
	"StatsResponse.stats":          "is decoded as what was asked for, whatever it says it is",
	"ConnectResponse.version":      "not asked for",
}

// TestTextsOfAGuest fails for a field of an answer that nobody has thought about.
func TestTextsOfAGuest(t *testing.T) {
	seen := map[string]bool{}
	for _, file := range []protoreflect.FileDescriptor{File_machine_proto, File_task_proto} {
		for i := range file.Messages().Len() {
			if m := file.Messages().Get(i); strings.HasSuffix(string(m.Name()), "Response") {
				collectTexts(m, seen)
			}
		}
	}
	for name := range seen {
		if texts[name] == "" {
			t.Errorf("%s is up to the guest: what does the host do with it?", name)
		}
	}
	for name := range texts {
		if !seen[name] {
			t.Errorf("there is no %s", name)
		}
	}
}

// collectTexts notes the fields of a message, and of those in it, that are not numbers.
func collectTexts(m protoreflect.MessageDescriptor, seen map[string]bool) {
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		name := string(m.Name()) + "." + string(f.Name())
		switch {
		case f.Kind() == protoreflect.StringKind || f.Kind() == protoreflect.BytesKind:
			seen[name] = true
		case f.Kind() == protoreflect.MessageKind && f.Message().FullName() == "google.protobuf.Any":
			seen[name] = true
		case f.Kind() == protoreflect.MessageKind && f.Message().ParentFile() == m.ParentFile():
			collectTexts(f.Message(), seen)
		}
	}
}
