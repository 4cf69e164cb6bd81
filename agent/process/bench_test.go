package process

import (
	"testing"
)

// BenchmarkExec is an exec from the request to its exit.
func BenchmarkExec(b *testing.B) {
	w := newWorld(b)
	w.sleeper("c")
	for b.Loop() {
		w.exec("c", "e", process1("true"), Stdio{})
		w.start("c", "e")
		w.wait("c", "e")
		if _, _, err := w.Delete("c", "e"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkContainer is a container's whole life.
func BenchmarkContainer(b *testing.B) {
	w := newWorld(b)
	for b.Loop() {
		w.create("c", w.spec("true"), Stdio{})
		w.start("c", "")
		w.wait("c", "")
		w.remove("c")
	}
}
