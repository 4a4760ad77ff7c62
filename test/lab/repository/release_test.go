//go:build linux

package repository

import "testing"

func TestReleaseVersionIsFound(t *testing.T) {
	tests := []struct{ said, want string }{
		{"k3s version v1.33.5+k3s1 (abcdef12)\ngo version go1.24.6\n", "v1.33.5+k3s1"},
		{"k3s version v1.33.13+standin (a stand-in for tests; not k3s)\n", "v1.33.13+standin"},
		{"v1.34.0-rc1+k3s1", "v1.34.0-rc1+k3s1"},
		{"something else", ""},
	}
	for _, test := range tests {
		got, err := releaseVersion(test.said)
		if got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("releaseVersion(%q) = %q, %v", test.said, got, err)
		}
	}
}
