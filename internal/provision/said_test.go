package provision

import "testing"

func TestAReportNamesItsDiskOnce(t *testing.T) {
	for _, test := range []struct{ step, message, disk, want string }{
		{"disk", "installing on /dev/vda 8.6 GB", "/dev/vda 8.6 GB", "disk: installing on /dev/vda 8.6 GB"},
		{"image", "cannot write", "/dev/vda 8.6 GB", "image: cannot write: /dev/vda 8.6 GB"},
		{"", "", "/dev/vda 8.6 GB", "/dev/vda 8.6 GB"},
		{"image", "", "", "image"},
		{"", "", "", ""},
	} {
		if got := said(test.step, test.message, test.disk); got != test.want {
			t.Errorf("said(%q, %q, %q) = %q, want %q", test.step, test.message, test.disk, got, test.want)
		}
	}
}
