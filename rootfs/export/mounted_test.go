package export_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
	"github.com/microvm/microvm/rootfs/export"
)

// workload is a script that runs on the share and on the host: both must say
// the same and leave the same behind.
type workload struct {
	name, script string
}

var workloads = []workload{
	{"files", `
echo hello > a; cat a; ln a b; ln -s a l; mkdir -p d/e/f; mv d/e x; mkfifo p
stat -c '%F %a %h %s %N' a b l p x; readlink l; rm b; test ! -e b; rm -r d
printf more >> a; cat a; : > a; wc -c < a; cp /bin/true t; ./t
mknod w c 0 0; stat -c %t,%T w; mknod z c 1 3 2>/dev/null || true; rm -f z
(umask 027; mkdir m; touch m/n; stat -c %a m m/n)
mv a ../nowhere/x 2>/dev/null || echo no; rmdir x 2>/dev/null || echo full
cat nothing 2>/dev/null || echo none; touch "$(printf 'n%.0s' $(seq 255))"; ls | wc -l
(sleep 0.1; echo through) > p & cat p; wait`},
	{"owners", `
chmod 777 .; mkdir g; chgrp 500 g; chmod 2777 g
setpriv --reuid 1000 --regid 1000 --clear-groups sh -c 'umask 022; cd g; touch f; mkdir d; ln -s f l; mkfifo p
 stat -c "%n %a %u:%g" f d l p; chmod 600 f; chown 0 f 2>/dev/null || echo refused; cat /dev/null > ../t'
stat -c '%n %a %u:%g' g/* t
setpriv --reuid 1001 --regid 1001 --clear-groups sh -c 'cat g/f 2>/dev/null || echo denied; rm -f t 2>/dev/null; test -e t || echo gone'
cp /bin/true s; chmod 6755 s; chown 1000:1000 s; stat -c %a s; chmod 6755 s; stat -c %a s
setpriv --reuid 1000 --regid 1000 --clear-groups sh -c 'echo x >> s'; stat -c %a s
chmod 6777 s; setpriv --reuid 1001 --regid 1001 --clear-groups truncate -s 3 s; stat -c %a s
chmod 6777 s; setpriv --reuid 1001 --regid 1001 --clear-groups sh -c ': > s'; stat -c %a s
chmod 6777 s; echo y > s; stat -c %a s
touch -d 2001-02-03T04:05:06.789 s; stat -c %y s; touch -h -d 1999-01-01 g/l; stat -c %y g/l`},
	{"content", `
head -c 3000000 /dev/urandom > ../random 2>/dev/null || true
seq 200000 > n; sort -r n > r; cmp n r | head -c 20 || true; sha256sum n r
dd if=n of=o bs=3 count=999 skip=77 seek=5 status=none; sha256sum o
dd if=n of=q bs=64k oflag=direct,sync status=none 2>/dev/null || cp n q; cmp n q
truncate -s 5G big; printf end | dd of=big bs=1 seek=5368709117 conv=notrunc status=none; stat -c %s big; tail -c 3 big; rm big
fallocate -l 100000 f; stat -c %s f; fallocate -p -o 4096 -l 4096 f; cp --sparse=always f h; cmp f h
fallocate -n -o 100000 -l 100000 f; stat -c '%s' f; fallocate -z -o 0 -l 8192 f; sha256sum f
cp --reflink=auto n c; cmp n c; sync n; sync -f .
python3 - <<'PY'
import mmap, os
with open('map', 'w+b') as f:
    f.truncate(1 << 20)
    m = mmap.mmap(f.fileno(), 1 << 20)
    m[12345:12350] = b'hello'
    m.flush(); m.close()
with open('map', 'rb') as f: f.seek(12345); print(f.read(5))
a = os.open('app', os.O_RDWR | os.O_APPEND | os.O_CREAT)
os.write(a, b'x' * 5000)
m = mmap.mmap(a, 4096); m[0:3] = b'abc'; m.flush(); m.close()
os.write(a, b'end'); print(os.fstat(a).st_size, os.pread(a, 4, 0))
t = os.open('.', os.O_TMPFILE | os.O_RDWR, 0o640); os.write(t, b'tmp')
os.link('/proc/self/fd/%d' % t, 'linked', src_dir_fd=t, follow_symlinks=True); print(open('linked').read())
u = os.open('linked', os.O_RDWR); os.unlink('linked'); os.fchmod(u, 0o600); os.ftruncate(u, 2)
print(oct(os.fstat(u).st_mode), os.fstat(u).st_nlink, os.pread(u, 9, 0))
h = os.open('hole', os.O_RDWR | os.O_CREAT); os.ftruncate(h, 1 << 20); os.pwrite(h, b'x' * 4096, 1 << 19)
print(os.lseek(h, 0, os.SEEK_DATA), os.lseek(h, 1 << 19, os.SEEK_HOLE))
PY`},
	{"attributes", `
touch f; mkdir d; ln -s f l
python3 - <<'PY'
import os, errno
def attempt(what, *a, **k):
    try: print(what.__name__, a[1:2], what(*a, **k))
    except OSError as e: print(what.__name__, a[1:2], 'ENODATA' if e.errno == errno.ENODATA else 'error')
for p in 'f', 'd':
    attempt(os.setxattr, p, 'user.one', b'1' * 1000)
    attempt(os.setxattr, p, 'user.two', b'')
    attempt(os.setxattr, p, 'user.one', b'x', os.XATTR_CREATE)
    attempt(os.setxattr, p, 'user.three', b'x', os.XATTR_REPLACE)
    print(sorted(n for n in os.listxattr(p)))
    attempt(os.getxattr, p, 'user.one'); attempt(os.getxattr, p, 'user.two'); attempt(os.getxattr, p, 'user.none')
    attempt(os.removexattr, p, 'user.two'); attempt(os.removexattr, p, 'user.two')
attempt(os.setxattr, 'f', 'security.capability', bytes.fromhex('0100000200040000000000000000000000000000'))
print(os.listxattr('f')); open('f', 'a').write('x'); print(os.listxattr('f'))
PY
chattr +d f; lsattr f; chattr -d f; lsattr f
cp -a d e; getfattr -d e 2>/dev/null || true`},
	{"trees", `
cp -a /usr/share/doc/[a-d]* .; diff -r /usr/share/doc/bash bash; find . -type f | wc -l
mkdir many; cd many; seq 1000 | xargs touch; ls | wc -l; ls | sort -n | tail -1; seq 1 3 1000 | xargs rm; ls | wc -l; cd ..
python3 - <<'PY'
import os, shutil
for i in range(2000): os.mkdir('n'); os.chdir('n')
open('bottom', 'w').write('deep')
PY
find n -type d | wc -l; rm -rf n; tar cf t.tar many bash; mkdir u; tar xf t.tar -C u; diff -r bash u/bash; rm -r many t.tar`},
	{"renames", `
python3 - <<'PY'
import os
for i in range(300): open('f%d' % i, 'w').write(str(i))
for k in range(5):
    for i in range(300): os.rename('f%d' % i, 'g%d' % ((i * 7 + k) % 300))
    for i in range(300): os.rename('g%d' % i, 'f%d' % i)
PY
ls | wc -l; sha256sum f*
mkdir a b; echo 1 > a/x; echo 2 > b/x; mv -T a/x b/x; cat b/x; mkdir a/s; mv a/s b/s; mv b/s a/
python3 - <<'PY'
import ctypes, os
c = ctypes.CDLL(None, use_errno=True)
open('o','w').write('o'); open('n','w').write('n')
print(c.renameat2(-100, b'o', -100, b'n', 1), ctypes.get_errno(), c.renameat2(-100, b'o', -100, b'n', 2), open('o').read())
PY`},
	{"git", `
git init -q -b main r; cd r; git config user.email a@b; git config user.name n
for i in $(seq 200); do mkdir -p d$((i%10)); seq $i > d$((i%10))/f$i; done; git add .; git commit -q -m one
git gc -q; git checkout -q -b two; git mv d1 e1; git commit -q -m two; git checkout -q main; git merge -q two; git status --short; git fsck 2>&1
cd ..; git clone -q r s; git -C s log --format=%s; rm -rf r/.git s/.git`},
	{"compile", `
printf '#include <stdio.h>\nint main(void) { puts("compiled"); return 0; }\n' > c.c
cc -O2 -pipe -c c.c && cc -o c c.o && ./c && rm c c.o; printf 'int f(void){return 1;}\n' > f.c; cc -c f.c; ar rcs f.a f.o; ar t f.a; rm f.o f.a
python3 -c "import sqlite3; d=sqlite3.connect('db'); d.execute('create table t(x)'); [d.execute('insert into t values(?)',(i,)) for i in range(999)]; d.commit(); d.execute('pragma journal_mode=wal'); d.execute('delete from t where x%2'); d.commit(); print(d.execute('select count(*),sum(x) from t').fetchone()); d.close()"; rm db`},
}

// run runs a script in dir and returns what it says and what it leaves.
func (w *workload) run(t *testing.T, dir string) (said, left string) {
	t.Helper()
	for p := filepath.Dir(dir); p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		_ = os.Chmod(p, 0o755) // for the script's other users
	}
	cmd := exec.Command("bash", "-euc", w.script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TOP="+dir, "HOME=/nonexistent", "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s in %s: %v\n%s", w.name, dir, err, out)
	}
	list := exec.Command("sh", "-c", `find . -printf '%y %m %n %U:%G %p %l\n' | sort; find . -type f -print0 | sort -z | xargs -0r sha256sum`)
	list.Dir = dir
	tree, err := list.CombinedOutput()
	if err != nil {
		t.Errorf("list %s: %v\n%s", dir, err, tree)
	}
	return string(out), string(tree)
}

// TestWorkloadsDoTheSameAsOnTheHost compares the share, the directory that it
// shows, and a directory that is none of its business.
func TestWorkloadsDoTheSameAsOnTheHost(t *testing.T) {
	for name, c := range map[string]mountConfig{
		"auto":             {},
		"never":            {Exports: []mountExport{{Policy: export.Policy{Cache: export.CacheNever}}}},
		"few descriptors":  {Cached: 16},
		"submounts, locks": {Submounts: true, Locks: true},
	} {
		back := t.TempDir()
		if c.Exports == nil {
			c.Exports = []mountExport{{}}
		}
		c.Exports[0].Name, c.Exports[0].Path = "rw", back
		mnt := mount(t, c)
		for _, w := range workloads {
			if w.name == "trees" && c.Locks {
				continue // long, and no locks in it
			}
			t.Run(name+"/"+w.name, func(t *testing.T) {
				plain := t.TempDir()
				for _, parent := range []string{back, plain} {
					if err := os.Mkdir(filepath.Join(parent, w.name), 0o755); err != nil {
						t.Fatal(err)
					}
				}
				said, left := w.run(t, filepath.Join(mnt, "rw", w.name))
				wantSaid, wantLeft := w.run(t, filepath.Join(plain, w.name))
				differ(t, "said", said, wantSaid)
				differ(t, "left", left, wantLeft)
				_, behind := (&workload{script: ":"}).run(t, filepath.Join(back, w.name))
				differ(t, "the host sees", behind, left)
			})
		}
	}
}

func differ(t *testing.T, what, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := 0; i < len(g) || i < len(w); i++ {
		var a, b string
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			t.Errorf("%s, line %d:\n  %s\nwant:\n  %s", what, i+1, a, b)
			return
		}
	}
}

// TestPosix runs the conformance tests of go-fuse.
func TestPosix(t *testing.T) {
	for _, locks := range []bool{false, true} {
		for name, test := range posixtest.All {
			if name == "FcntlFlockLocksFile" {
				continue // wants a process's own lock to be in its way, which POSIX denies
			}
			t.Run(map[bool]string{false: "local locks/", true: "host's locks/"}[locks]+name, func(t *testing.T) {
				back := t.TempDir()
				mnt := mount(t, mountConfig{Locks: locks, Exports: []mountExport{{Name: "rw", Path: back}}})
				test(t, filepath.Join(mnt, "rw"))
			})
		}
	}
}
