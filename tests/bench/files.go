package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// What useFiles works on.
const (
	fileSize = 16 << 20 // of the file that is read and written, in bytes
	// patience is how long a measurement of blocks goes on.
	patience = 500 * time.Millisecond
)

// blockSizes are those of the reads and writes, with their names in rows.
var blockSizes = []struct {
	name string
	size int
}{{"4k", 4 << 10}, {"64k", 64 << 10}, {"1M", 1 << 20}}

// fileRow names a measurement of blocks; its unit is MiB/s.
func fileRow(what, block string, jobs int) string {
	return fmt.Sprintf("%s %s, jobs: %d, MiB/s", what, block, jobs)
}

// jobCounts are how many threads do the same at once.
var jobCounts = []int{1, 4}

// fileOptions are what useFiles is told.
type fileOptions struct {
	files int // small ones
	// forget empties this kernel's caches of what is on the share; nil where they are
	// the host's own.
	forget func() error
}

// useFiles measures the file system that dir is on and returns the figures by
// row. It is what runs in the guest.
func useFiles(dir string, o fileOptions) (map[string]float64, error) {
	figures := map[string]float64{}
	return figures, errors.Join(
		useBlocks(filepath.Join(dir, "file"), figures),
		useSmallFiles(filepath.Join(dir, "small"), o, figures),
		useTree(filepath.Join(dir, "tree"), o, figures))
}

func useBlocks(path string, figures map[string]float64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	defer f.Close()
	if err := f.Truncate(fileSize); err != nil {
		return err
	}
	for _, b := range blockSizes {
		for _, jobs := range jobCounts {
			for _, m := range []struct {
				what   string
				cold   bool
				random bool
				do     func(p []byte, off int64) (int, error)
			}{
				{"write", true, false, f.WriteAt}, {"random write", true, true, f.WriteAt},
				{"read, cold", true, false, f.ReadAt}, {"read, warm", false, false, f.ReadAt}, {"random read, cold", true, true, f.ReadAt},
			} {
				prepare := fill
				if m.cold {
					prepare = forget
				}
				if err := prepare(f); err != nil {
					return err
				}
				speed, err := transfer(b.size, jobs, m.random, m.do)
				if err != nil {
					return fmt.Errorf("%s %s: %w", m.what, b.name, err)
				}
				figures[fileRow(m.what, b.name, jobs)] = speed
			}
		}
	}
	return nil
}

// forget takes the file out of this kernel's page cache.
func forget(f *os.File) error {
	if err := f.Sync(); err != nil {
		return err
	}
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// fill reads the file, so that it is in the page cache.
func fill(f *os.File) error {
	_, err := io.Copy(io.Discard, io.NewSectionReader(f, 0, fileSize))
	return err
}

// transfer does something to every block of a file, jobs at once, and returns
// the speed in MiB/s, of as many blocks as there was time for.
func transfer(size, jobs int, random bool, do func(p []byte, off int64) (int, error)) (float64, error) {
	blocks := fileSize / size
	order := make([]int, blocks)
	for i := range order {
		order[i] = i
	}
	if random {
		rand.Shuffle(blocks, func(i, j int) { order[i], order[j] = order[j], order[i] })
	}
	begin := time.Now()
	var wg sync.WaitGroup
	errs := make(chan error, jobs)
	var done atomic.Int64
	share := len(order) / jobs
	for j := range jobs {
		wg.Go(func() {
			p := make([]byte, size)
			for _, i := range order[j*share : (j+1)*share] {
				if time.Since(begin) > patience {
					return
				}
				if _, err := do(p, int64(i*size)); err != nil {
					errs <- err
					return
				}
				done.Add(int64(size))
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return 0, err
	default:
		return float64(done.Load()) / (1 << 20) / elapsed(begin).Seconds(), nil
	}
}
