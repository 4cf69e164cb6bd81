package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// smallSize is the size of a small file in bytes.
const smallSize = 4 << 10

// folder is a directory of a job's own with small files, so that jobs are not kept from
// each other by the directory's lock.
type folder struct {
	dir   string
	files int
}

func (f folder) name(i int) string { return filepath.Join(f.dir, fmt.Sprint("file-", i)) }

// each does something to every file.
func each(do func(name string) error) func(folder) error {
	return func(f folder) error {
		for i := range f.files {
			if err := do(f.name(i)); err != nil {
				return err
			}
		}
		return nil
	}
}

// smallSteps are done one after the other to the same files. Before a cold one the
// guest's kernel forgets names, attributes and pages.
var smallSteps = []struct {
	name string
	cold bool
	do   func(folder) error
}{
	{"create", false, each(func(name string) error { return os.WriteFile(name, make([]byte, smallSize), 0o644) })},
	{"list, cold", true, func(f folder) error { _, err := os.ReadDir(f.dir); return err }},
	{"stat, warm", false, each(func(name string) error { _, err := os.Lstat(name); return err })},
	{"stat, cold", true, each(func(name string) error { _, err := os.Lstat(name); return err })},
	{"open and read, warm", false, each(func(name string) error { _, err := os.ReadFile(name); return err })},
	{"open and read, cold", true, each(func(name string) error { _, err := os.ReadFile(name); return err })},
	{"rename", false, each(func(name string) error { return os.Rename(name, name+".new") })},
	{"unlink", false, each(func(name string) error { return os.Remove(name + ".new") })},
}

// smallRow names a measurement of small files.
func smallRow(step string, jobs int) string { return fmt.Sprintf("%s, jobs: %d, files/s", step, jobs) }

func smallRows() (rows []string) {
	for _, s := range smallSteps {
		for _, jobs := range jobCounts {
			rows = append(rows, smallRow(s.name, jobs))
		}
	}
	return rows
}

// useSmallFiles measures the steps on o.files files in all. Those that want something
// forgotten are left out where that can't be.
func useSmallFiles(dir string, o fileOptions, figures map[string]float64) error {
	for _, jobs := range jobCounts {
		var folders []folder
		for j := range jobs {
			f := folder{filepath.Join(dir, fmt.Sprintf("%d-%d", jobs, j)), o.files / jobs}
			if err := os.MkdirAll(f.dir, 0o755); err != nil {
				return err
			}
			folders = append(folders, f)
		}
		for _, s := range smallSteps {
			if s.cold && o.forget == nil {
				continue
			}
			speed, err := o.measure(s.cold, o.files, func() error { return inAll(folders, s.do) })
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			figures[smallRow(s.name, jobs)] = speed
		}
	}
	return os.RemoveAll(dir)
}

// inAll does something in all folders at once.
func inAll(folders []folder, do func(folder) error) error {
	var jobs sync.WaitGroup
	errs := make([]error, len(folders))
	for i, f := range folders {
		jobs.Go(func() { errs[i] = do(f) })
	}
	jobs.Wait()
	return errors.Join(errs...)
}

// measure returns how many of files are done a second.
func (o *fileOptions) measure(cold bool, files int, do func() error) (float64, error) {
	if cold {
		if err := o.forget(); err != nil {
			return 0, err
		}
	}
	begin := time.Now()
	err := do()
	return float64(files) / elapsed(begin).Seconds(), err
}

// tick is how long the clock of an emulated guest may stand still.
const tick = 4 * time.Millisecond

// elapsed is the time since begin, and a tick of a clock that has stood still.
func elapsed(begin time.Time) time.Duration {
	if d := time.Since(begin); d > 0 {
		return d
	}
	return tick
}
