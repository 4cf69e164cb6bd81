package hostile

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// suite is what there is in a package's tests.
type suite struct {
	functions map[string]bool
	texts     map[string]bool // cases are named by them
}

// TestEveryAttackHasItsTest fails for an attack without a test, and for a test that
// does not exist.
func TestEveryAttackHasItsTest(t *testing.T) {
	suites := map[string]*suite{}
	for on, list := range attacks {
		if len(list) == 0 {
			t.Errorf("%s: no attacks", on)
		}
		for _, a := range list {
			if len(a.tests) == 0 {
				t.Errorf("%s: %s: no test", on, a.what)
			}
			for _, name := range a.tests {
				dir, test, _ := strings.Cut(name, ":")
				if suites[dir] == nil {
					suites[dir] = read(t, dir)
				}
				if why := suites[dir].lacks(test); why != "" {
					t.Errorf("%s: %s: %s: %s", on, a.what, name, why)
				}
			}
		}
	}
}

// TestEveryDeviceIsAttacked fails for a device without attacks, such as a balloon would be.
func TestEveryDeviceIsAttacked(t *testing.T) {
	listed := map[string]string{"fs": "fs, protocol", "mmio": "queue set-up", "queue": "ring", "vhostuser": "bus"}
	entries, err := os.ReadDir(filepath.Join("..", "..", "vmm", "virtio"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && len(attacks[cmp.Or(listed[e.Name()], e.Name())]) == 0 {
			t.Errorf("no attacks on vmm/virtio/%s are listed", e.Name())
		}
	}
}

func (s *suite) lacks(test string) string {
	function, part, sub := strings.Cut(test, "/")
	switch {
	case !s.functions[function]:
		return "no such test"
	case sub && !s.texts[part]:
		return "no such case"
	}
	return ""
}

// read finds the tests of the package in dir.
func read(t *testing.T, dir string) *suite {
	t.Helper()
	s := &suite{map[string]bool{}, map[string]bool{}}
	files, err := filepath.Glob(filepath.Join("..", "..", dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		s.add(f)
	}
	return s
}

func (s *suite) add(f *ast.File) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Recv == nil && (strings.HasPrefix(n.Name.Name, "Test") || strings.HasPrefix(n.Name.Name, "Fuzz")) {
				s.functions[n.Name.Name] = true
			}
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				text, _ := strconv.Unquote(n.Value)
				s.texts[text] = true
			}
		}
		return true
	})
}

// TestLacks makes sure that the list can fail.
func TestLacks(t *testing.T) {
	s := read(t, "tests/hostile")
	for test, fine := range map[string]bool{"TestLacks": true, "TestLacks/no such test": true, "TestNone": false, "TestLacks/" + strings.Repeat("x", 9): false} {
		if (s.lacks(test) == "") != fine {
			t.Errorf("%s: %q", test, s.lacks(test))
		}
	}
	if len(maps.Collect(maps.All(s.functions))) < 2 {
		t.Errorf("%v", s.functions)
	}
}
