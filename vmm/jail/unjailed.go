//go:build unjailed

package jail

const off = true
