package bundle

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// FuzzConfig reads anything as a configuration: it is refused, or split without
// touching anything of the host.
func FuzzConfig(f *testing.F) {
	for _, s := range []any{Example(), ExampleRootless(), map[string]any{}} {
		text, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"ociVersion":"1.0.0","root":{"path":"../../etc"},"process":{"args":["a"],"cwd":"/"},"linux":{},"mounts":[{"destination":"/a","type":"bind","source":"../b","options":["rbind","ro"]}]}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, config []byte) {
		if err := os.WriteFile(filepath.Join(dir, ConfigFile), config, 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := Load(dir)
		if err != nil {
			return
		}
		if _, err := b.Split("fuzz", os.Stat); err != nil {
			return
		}
		b.Shown()
	})
}
