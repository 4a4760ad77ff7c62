package install

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"syscall"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestPassing(t *testing.T) {
	nodes := schema.GroupResource{Group: "rhizome.dev", Resource: "nodes"}
	for name, tc := range map[string]struct {
		err  error
		want bool
	}{
		"nothing":                {nil, false},
		"too slow":               {apierrors.NewTimeoutError("request did not complete within requested timeout", 0), true},
		"too slow, in our words": {fmt.Errorf("cannot apply it: %w", apierrors.NewTimeoutError("late", 0)), true},
		"busy":                   {apierrors.NewTooManyRequests("later", 1), true},
		"come back":              {apierrors.NewServerTimeout(nodes, "patch", 1), true},
		"starting":               {apierrors.NewServiceUnavailable("not yet"), true},
		"refused":                {&url.Error{Op: "Get", URL: "https://192.0.2.1:6443", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, true},
		"cut":                    {&url.Error{Op: "Get", URL: "https://192.0.2.1:6443", Err: io.EOF}, true},
		"timed out":              {&url.Error{Op: "Get", URL: "https://192.0.2.1:6443", Err: os.ErrDeadlineExceeded}, true},
		"not permitted":          {apierrors.NewForbidden(nodes, "node1", errors.New("no")), false},
		"somebody else's":        {&ConflictError{Object: "Node/node1", Err: apierrors.NewConflict(nodes, "node1", errors.New("no"))}, false},
		"refused by the schema":  {apierrors.NewBadRequest("spec.mac"), false},
		"of another founding":    {&OtherFoundingError{Keys: []string{"token"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Passing(tc.err); got != tc.want {
				t.Errorf("Passing(%v) is %t", tc.err, got)
			}
		})
	}
}
