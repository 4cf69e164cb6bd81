package guest

import (
	"os"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
)

// ConfigureLog makes libcontainer's log lines plain and, unless the kernel was
// asked to be verbose, errors only: each line on the console stops the machine
// for a moment.
func ConfigureLog() {
	logrus.SetFormatter(&logrus.TextFormatter{DisableColors: true, DisableTimestamp: true})
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err == nil && slices.Contains(strings.Fields(string(cmdline)), "quiet") {
		logrus.SetLevel(logrus.ErrorLevel)
	}
}
