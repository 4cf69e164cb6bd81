package e2e

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/tests/command"
)

// keepDatabases has SQLite commit one record after the other to a database with a
// write-ahead log, which is shared memory, too, and to one with a rollback journal.
// Each number is printed when its transaction is committed. Two processes write to
// the first one, so that they need its locks.
const keepDatabases = `
commit() { # NAME JOURNAL FIRST STEP
	echo ".timeout 60000" "
PRAGMA journal_mode = $2; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 20;"
	n=$3
	while :; do
		echo "BEGIN IMMEDIATE; INSERT INTO t VALUES ($n, hex(randomblob(2000))); COMMIT; SELECT '$1', $n;"
		n=$((n + $4))
	done
}
cd /data
for db in log journal; do sqlite3 $db 'CREATE TABLE t (n INTEGER PRIMARY KEY, filler TEXT)'; done
sqlite3 log 'PRAGMA journal_mode = WAL' >/dev/null
commit log WAL 1 2 | stdbuf -oL sqlite3 log &
commit log WAL 2 2 | stdbuf -oL sqlite3 log &
commit journal DELETE 1 1 | stdbuf -oL sqlite3 journal &
wait`

// readDatabases opens what is left and prints a line for each database.
const readDatabases = `cd /data
for db in log journal; do
	sqlite3 $db 'PRAGMA integrity_check'
	sqlite3 $db 'SELECT n FROM t WHERE length(filler) = 4000' | sed "s/^/$db|/"
done`

// TestSQLiteLosesNothing kills the machine of a database, and reads that in another.
func TestSQLiteLosesNothing(t *testing.T) {
	s := newSite(t)
	dir := t.TempDir()
	onData := func(spec *specs.Spec) { spec.Mounts = append(spec.Mounts, bind(dir, "/data")) }
	_, pid, stdout := s.detached(s.debian([]string{"/bin/bash", "-c", keepDatabases}, asDocker, onData))
	committed := func() map[string][]string {
		out, err := os.ReadFile(stdout)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string][]string{}
		for line := range bytes.Lines(out) {
			if db, n, ok := bytes.Cut(line, []byte("|")); ok && bytes.HasSuffix(n, []byte("\n")) {
				found[string(db)] = append(found[string(db)], string(bytes.TrimSpace(n)))
			}
		}
		return found
	}
	command.Eventually(t, "there are some records", func() bool {
		c := committed()
		return len(c["log"]) >= 100 && len(c["journal"]) >= 50
	})
	killMachine(t, pid)
	want := committed()
	kept := map[string]bool{}
	intact := 0
	for line := range bytes.Lines([]byte(s.output(s.debian([]string{"/bin/bash", "-c", readDatabases}, asDocker, onData)))) {
		line := string(bytes.TrimSpace(line))
		if line == "ok" {
			intact++
		}
		kept[line] = true
	}
	if intact != 2 {
		t.Error("a database is damaged")
	}
	for db, numbers := range want {
		lost := 0
		for _, n := range numbers {
			if !kept[fmt.Sprint(db, "|", n)] {
				lost++
			}
		}
		if lost > 0 {
			t.Errorf("%s: %d of %d records are lost", db, lost, len(numbers))
		}
		t.Logf("%s: %d committed", db, len(numbers))
	}
}
