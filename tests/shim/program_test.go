package shim

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// programName is what this test is called when it runs in a container, where it
// prints what is made in a directory or moved there.
const programName = "shim-program"

func runProgram(dir string) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return err
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		return err
	}
	buf := make([]byte, 4<<10)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil {
			return err
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			size := unix.SizeofInotifyEvent + int(b[12]) // names are short
			kind := "created"
			if b[4]&unix.IN_MOVED_TO != 0 {
				kind = "moved"
			}
			fmt.Println(kind, unix.ByteSliceToString(b[unix.SizeofInotifyEvent:size]))
			b = b[size:]
		}
	}
}
