// Package hostile is the list of what a malicious guest tries, with the test that
// shows that each of it is refused: counted, answered with NEEDS_RESET where a ring is
// broken, logged once, and without an effect on the host and on other machines. What a
// machine does not have, such as a balloon, nobody can misuse.
package hostile
