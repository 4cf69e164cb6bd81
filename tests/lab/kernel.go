package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// ErrNoKernel says that there is no kernel to boot the lab with.
var ErrNoKernel = errors.New("no linux-image-*-cloud-amd64 in /boot or the cache: run `lab deps`")

// Kernel is an unpacked or installed Debian kernel.
type Kernel struct {
	// Image is the path of the bzImage.
	Image string
	// Modules is the directory that has the modules of Release in a directory
	// of that name.
	Modules string
	// Release is what uname -r will say.
	Release string
}

// FindKernel returns the newest installed cloud kernel, or else the newest that
// Prepare has unpacked into the cache.
func FindKernel() (Kernel, error) {
	for _, root := range []string{"/", kernelCache()} {
		if kernel, ok := newestKernel(root); ok {
			return kernel, nil
		}
	}
	return Kernel{}, ErrNoKernel
}

func newestKernel(root string) (Kernel, bool) {
	images, _ := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*-cloud-amd64"))
	sort.Slice(images, func(i, j int) bool { return versionLess(images[i], images[j]) })
	for i := len(images) - 1; i >= 0; i-- {
		kernel := Kernel{
			Image:   images[i],
			Modules: modulesBelow(root),
			Release: strings.TrimPrefix(filepath.Base(images[i]), "vmlinuz-"),
		}
		if _, err := os.Stat(kernel.moduleFile("modules.dep")); err == nil {
			return kernel, true
		}
	}
	return Kernel{}, false
}

// modulesBelow allows for packages from before and after Debian's merge of /lib
// into /usr/lib.
func modulesBelow(root string) string {
	if merged := filepath.Join(root, "usr/lib/modules"); exists(merged) {
		return merged
	}
	return filepath.Join(root, "lib/modules")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (k Kernel) moduleFile(name string) string {
	return filepath.Join(k.Modules, k.Release, name)
}

// versionLess compares numbers in the names as numbers.
func versionLess(a, b string) bool {
	for len(a) > 0 && len(b) > 0 {
		var left, right string
		left, a = nextPart(a)
		right, b = nextPart(b)
		if left == right {
			continue
		}
		if isDigit(left[0]) && isDigit(right[0]) && len(left) != len(right) {
			return len(left) < len(right)
		}
		return left < right
	}
	return len(a) < len(b)
}

// nextPart cuts the longest run of digits or of other bytes off s.
func nextPart(s string) (part, rest string) {
	end := 1
	for end < len(s) && isDigit(s[end]) == isDigit(s[0]) {
		end++
	}
	return s[:end], s[end:]
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// cacheDir is where the project keeps what it has built or fetched.
func cacheDir() string {
	if dir := os.Getenv("MICROVM_CACHE"); dir != "" {
		return dir
	}
	base, err := os.UserCacheDir()
	if err != nil {
		base = fmt.Sprintf("/tmp/.cache-%d", os.Getuid())
	}
	return filepath.Join(base, "microvm")
}

func kernelCache() string { return filepath.Join(cacheDir(), "lab-kernel") }
