package manager

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func TestAnswerFitsTheDaemon(t *testing.T) {
	for newest, want := range map[string]string{
		"":  "unix:///s", // before 1.7
		"2": `{"version":2,"address":"unix:///s","protocol":"ttrpc"}`,
		"9": `{"version":3,"address":"unix:///s","protocol":"ttrpc"}`,
	} {
		var b bytes.Buffer
		if err := answer(&b, "unix:///s", newest); err != nil || b.String() != want {
			t.Errorf("%q: %s, %v", newest, b.String(), err)
		}
	}
	if err := answer(&bytes.Buffer{}, "unix:///s", "new"); err == nil {
		t.Error("a version that is no number")
	}
}

// TestInfo has the features as containerd reads them.
func TestInfo(t *testing.T) {
	for options, users := range map[string]bool{"": true, "containerd.runc.v1.Options": true, "runtimeoptions.v1.Options": false} {
		given, err := proto.Marshal(&anypb.Any{TypeUrl: options})
		if err != nil {
			t.Fatal(err)
		}
		info, err := New("v1").Info(t.Context(), bytes.NewReader(given))
		if err != nil {
			t.Fatal(err)
		}
		read, err := typeurl.UnmarshalAny(info.GetFeatures())
		if err != nil {
			t.Fatal(err)
		}
		f, ok := read.(*features.Features)
		if !ok || !slices.Contains(f.MountOptions, "rro") || (f.Linux.MountExtensions != nil) != users || f.Annotations["io.microvm.version"] != "v1" {
			t.Errorf("%q: features: %+v", options, read)
		}
	}
}

func TestParseStart(t *testing.T) {
	l, ns, err := parseStart([]string{"-namespace", "n", "-address", "/sock", "-publish-binary", "p", "-id", "i", "-debug", "start"})
	if err != nil || ns != "n" || l.id != "i" || l.daemon != "/sock" || !l.debug {
		t.Errorf("%+v %s %v", l, ns, err)
	}
	for _, args := range [][]string{nil, {"-namespace", "n", "-id", "i"}, {"-namespace", "n", "-id", "i", "delete"}, {"-info"}, {"-unknown", "start"}} {
		if _, _, err := parseStart(args); !errors.Is(err, errOther) {
			t.Errorf("%v: %v", args, err)
		}
	}
	if _, _, err := parseStart([]string{"-id", "i", "start"}); err == nil || errors.Is(err, errOther) {
		t.Errorf("no namespace: %v", err)
	}
}

func TestContainersOfAPodShareAShim(t *testing.T) {
	t.Chdir(t.TempDir())
	for text, want := range map[string]string{
		`{}`: "me",
		`{"annotations": {"io.kubernetes.cri.sandbox-id": "pod"}}`: "pod",
	} {
		if err := os.WriteFile("config.json", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := readGroup("me"); err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	if err := os.WriteFile("config.json", []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readGroup("me"); err == nil {
		t.Error("a broken configuration")
	}
}

func TestSocketOfADeadShimIsRemoved(t *testing.T) {
	dir := t.TempDir()
	if err := removeSocket(dir); err != nil {
		t.Errorf("no shim: %v", err)
	}
	socket := filepath.Join(dir, "socket")
	for name, content := range map[string]string{socket: "", filepath.Join(dir, addressFile): "unix://" + socket} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeSocket(dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("it is there: %v", err)
	}
	if err := removeSocket(dir); err != nil {
		t.Errorf("again: %v", err)
	}
}
