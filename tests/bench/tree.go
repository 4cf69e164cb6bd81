package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Rows of a tree of files.
const (
	untarRow      = "untar, files/s"
	statusColdRow = "status of a tree, cold, files/s"
	statusWarmRow = "status of a tree, warm, files/s"
)

// useTree measures an archive's extraction, and what `git status` asks of a file system
// about the tree that comes of it: the attributes of every file, and the names in every
// directory.
func useTree(dir string, o fileOptions, figures map[string]float64) error {
	archive, err := makeArchive(o.files)
	if err != nil {
		return err
	}
	for _, m := range []struct {
		row  string
		cold bool
		do   func() error
	}{
		{untarRow, false, func() error { return untar(dir, bytes.NewReader(archive)) }},
		{statusWarmRow, false, func() error { return status(dir) }},
		{statusColdRow, true, func() error { return status(dir) }},
	} {
		if m.cold && o.forget == nil {
			continue
		}
		if figures[m.row], err = o.measure(m.cold, o.files, m.do); err != nil {
			return fmt.Errorf("%s: %w", m.row, err)
		}
	}
	return os.RemoveAll(dir)
}

// makeArchive makes a tar archive of files in directories of 16, each with half a
// small file's size on average, and of an old time.
func makeArchive(files int) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	old := time.Unix(1_000_000_000, 0)
	content := make([]byte, smallSize)
	for i := range files {
		dir := fmt.Sprintf("d%d/e%d", i/256, i/16)
		if i%16 == 0 {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: old}); err != nil {
				return nil, err
			}
		}
		size := int64(i * 997 % smallSize)
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("%s/f%d", dir, i), Mode: 0o644, Size: size, ModTime: old}); err != nil {
			return nil, err
		}
		if _, err := w.Write(content[:size]); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}

// untar extracts an archive with the calls that tar(1) makes.
func untar(dir string, r io.Reader) error {
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o755)
		} else {
			err = extract(path, archive)
		}
		if err := errors.Join(err, os.Chtimes(path, h.ModTime, h.ModTime), os.Chmod(path, h.FileInfo().Mode())); err != nil {
			return err
		}
	}
}

func extract(path string, content io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

// status looks at every file of a tree.
func status(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			_, err = os.Lstat(path)
		}
		return err
	})
}
