package cri

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/microvm/microvm/tests/busybox"
)

// sandboxImage is that of the sandboxes' containers. No test removes it.
const sandboxImage = "registry.k8s.io/pause:3.10"

// webServer stands for nginx and httpd: it answers on the port that is its first
// argument, says the name of the second, and looks like nginx's first process.
const webServer = `#!/bin/sh
mkdir -p /var/run
echo $$ >/var/run/nginx.pid
echo httpd
httpd -f -p "$2" -h /www
`

// Debian's static busybox is built without these two.
const (
	pgrep = "#!/bin/sh\ngrep -lx \"$1\" /proc/[0-9]*/comm 2>/dev/null | grep -o '[0-9]\\+'\n"
	ipcs  = "#!/bin/sh\nexec cat /proc/sysvipc/shm\n"
)

// makeImages makes those that critest pulls, by path and tag, out of the host's
// busybox. One is missing: of that, a test names the digest.
func makeImages(dir string) (map[string]*busybox.Packed, error) {
	root := filepath.Join(dir, "rootfs")
	if err := makeRootfs(root); err != nil {
		return nil, err
	}
	layer, err := busybox.Layer(root)
	if err != nil {
		return nil, err
	}
	images := map[string]*busybox.Packed{}
	for name, config := range configs() {
		config.Env = []string{"PATH=/bin"}
		if config.Cmd == nil {
			config.Cmd = []string{"sh"}
		}
		if images[name], err = busybox.Pack(config, layer); err != nil {
			return nil, err
		}
	}
	return images, nil
}

// configs are what makes the images differ.
func configs() map[string]v1.ImageConfig {
	idle := []string{"tail", "-f", "/dev/null"} // sleep is what a test looks for
	const ours, theirs = "k8s-staging-cri-tools/", "e2e-test-images/"
	server := func(port string) v1.ImageConfig {
		return v1.ImageConfig{Cmd: []string{"/bin/nginx", "master process", port}}
	}
	named := func(name string) v1.ImageConfig { return v1.ImageConfig{Labels: map[string]string{"name": name}} }
	all := map[string]v1.ImageConfig{
		theirs + "busybox:1.29-2":           {},
		theirs + "nginx:1.14-2":             server("80"),
		theirs + "httpd:2.4.39-4":           server("80"),
		theirs + "nonewprivs:1.3":           {Cmd: []string{"/bin/" + setuidProgram}},
		ours + "hostnet-nginx-amd64:latest": server("12003"),
		"pause:3.9":                         {Cmd: idle, Labels: map[string]string{"name": "3.9"}},
		"pause:3.10":                        {Cmd: idle},
	}
	for name, user := range map[string]string{
		"user-uid": "1002", "user-username": "www-data", "user-uid-group": "1003:1004", "user-username-group": "www-data:1004", "predefined-group": "1000",
	} {
		all[ours+"test-image-"+name+":latest"] = v1.ImageConfig{User: user}
	}
	for _, name := range []string{"1:latest", "2:latest", "3:latest", "latest:latest", "tag:test", "tag:all"} {
		all[ours+"test-image-"+name] = named(name)
	}
	for _, tag := range []string{"1", "2", "3"} {
		all[ours+"test-image-tags:"+tag] = named("same")
	}
	return all
}

// makeRootfs fills a directory with busybox, the users that tests name, a web
// server, and this program in its other role.
func makeRootfs(root string) error {
	if err := errors.Join(busybox.Rootfs(root), hardLinks(root+"/bin")); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	binary, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	setuid := filepath.Join(root, "bin", setuidProgram)
	return errors.Join(
		appendTo(root+"/etc/passwd", "www-data:x:33:33::/:/bin/sh\ndefault-user:x:1000:1000::/:/bin/sh\n"),
		appendTo(root+"/etc/group", "www-data:x:33:\ndefault-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n"),
		os.WriteFile(root+"/bin/nginx", []byte(webServer), 0o755),
		os.WriteFile(root+"/bin/pgrep", []byte(pgrep), 0o755), os.WriteFile(root+"/bin/ipcs", []byte(ipcs), 0o755),
		os.Mkdir(root+"/www", 0o755), os.WriteFile(root+"/www/index.html", []byte("served\n"), 0o644),
		os.WriteFile(setuid, binary, 0o755), os.Chmod(setuid, os.ModeSetuid|0o755),
	)
}

// hardLinks makes those out of the links to busybox: a test hides one of its
// applets, and not the others.
func hardLinks(bin string) error {
	entries, err := os.ReadDir(bin)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type() != os.ModeSymlink {
			continue
		}
		name := filepath.Join(bin, e.Name())
		if err := errors.Join(os.Remove(name), os.Link(filepath.Join(bin, "busybox"), name)); err != nil {
			return err
		}
	}
	return nil
}

func appendTo(name, text string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// setuidProgram is the name by which this program tells of its user.
const setuidProgram = "nonewprivs"

func tellUser() { fmt.Printf("Effective uid: %d\n", os.Geteuid()) }
