package join

import "testing"

func TestNodePasswordsAreKeptAsHashes(t *testing.T) {
	h, err := hash("right")
	if err != nil {
		t.Fatal(err)
	}
	if !verify(h, "right") {
		t.Error("the right password does not verify")
	}
	for _, bad := range []string{"", "$1:00:15:8:1:", "$2" + h[2:], h[:len(h)-4], "x"} {
		if verify(bad, "right") {
			t.Errorf("%q verifies", bad)
		}
	}
	if verify(h, "wrong") {
		t.Error("a wrong password verifies")
	}
}
