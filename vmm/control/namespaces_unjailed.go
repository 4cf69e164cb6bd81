//go:build unjailed

package control

// No namespaces, for `make bench`.
const (
	Namespaces   = 0
	EmptyNetwork = 0
)
