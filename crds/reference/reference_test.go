package main

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheReferenceIsUpToDate(t *testing.T) {
	want, err := reference("../v1alpha1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../" + target)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/reference/api.md is stale: run 'make generate' (-want +got):\n%s", diff)
	}
}
