package state

import "strings"

// maxID keeps the names that are derived from an id within NAME_MAX.
const maxID = 200

// ValidateID accepts what runc accepts: letters, digits and "_+-." that make
// one path component. The error is ErrInvalidID.
func ValidateID(id string) error {
	if id == "" || len(id) > maxID || id == "." || id == ".." {
		return ErrInvalidID
	}
	if strings.ContainsFunc(id, func(r rune) bool { return !validRune(r) }) {
		return ErrInvalidID
	}
	return nil
}

func validRune(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return true
	}
	return strings.ContainsRune("_+-.", r)
}
