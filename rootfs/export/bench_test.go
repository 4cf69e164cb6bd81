package export

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// benchmark runs one request again and again.
func benchmark(b *testing.B, c *client, in []byte, room int) {
	out := make([]byte, room)
	r := &Request{Readable: [][]byte{in}, Writable: [][]byte{out[:outHeaderSize], out[outHeaderSize:]}}
	b.ReportAllocs()
	for b.Loop() {
		if n := c.s.Handle(r); n == 0 || out[4] != 0 {
			b.Fatal("failed")
		}
	}
}

func benchClient(b *testing.B) (c *client, dir, file, fh uint64) {
	top := b.TempDir()
	if err := os.WriteFile(filepath.Join(top, "file"), make([]byte, 1<<20), 0o644); err != nil {
		b.Fatal(err)
	}
	c = newClient(b, Options{}, map[string]string{"in": top})
	dir, file = c.lookup("in"), c.lookup("in", "file")
	return c, dir, file, c.open(file, os.O_RDWR)
}

func BenchmarkLookup(b *testing.B) {
	c, dir, _, _ := benchClient(b)
	benchmark(b, c, c.encode(opLookup, dir, "file"), 200)
}

func BenchmarkGetattr(b *testing.B) {
	c, _, file, _ := benchClient(b)
	benchmark(b, c, c.encode(opGetattr, file, uint64(0), uint64(0)), 200)
}

func BenchmarkRead(b *testing.B) {
	for _, n := range []int{4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c, _, file, fh := benchClient(b)
			b.SetBytes(int64(n))
			benchmark(b, c, c.encode(opRead, file, fh, uint64(0), u32(n), make([]byte, 20)), n+outHeaderSize)
		})
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, n := range []int{4 << 10, 1 << 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c, _, file, fh := benchClient(b)
			b.SetBytes(int64(n))
			benchmark(b, c, c.encode(opWrite, file, fh, uint64(0), u32(n), make([]byte, 20), make([]byte, n)), 200)
		})
	}
}

// BenchmarkWatched has the guest change what it watches itself.
func BenchmarkWatched(b *testing.B) {
	for _, watched := range []bool{false, true} {
		start := func(b *testing.B) (c *client, dir, file, fh uint64) {
			c, dir, file, fh = benchClient(b)
			if watched {
				c.s.watch(dir)
			}
			return c, dir, file, fh
		}
		b.Run(fmt.Sprint("write/", watched), func(b *testing.B) {
			c, _, file, fh := start(b)
			benchmark(b, c, c.encode(opWrite, file, fh, uint64(0), u32(4<<10), make([]byte, 20), make([]byte, 4<<10)), 200)
		})
		b.Run(fmt.Sprint("create and remove/", watched), func(b *testing.B) {
			c, dir, _, _ := start(b)
			for b.Loop() {
				_, made := c.call(opMkdir, dir, uint32(0o755), uint32(0), "new")
				_, removed := c.call(opRmdir, dir, "new")
				if made != 0 || removed != 0 {
					b.Fatal(made, removed)
				}
			}
		})
	}
}
