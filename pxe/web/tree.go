package web

import (
	"fmt"
	"net/http"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/media/tree"
)

// treeFile serves a file of an installer: out of an ISO, or of those that a listing
// names. Both are named by their digests.
func (h *Handlers) treeFile(w http.ResponseWriter, r *http.Request) {
	digest, ok := digestOf(r)
	if h.Media == nil || !ok {
		http.NotFound(w, r)
		return
	}
	name := r.PathValue("path")
	file, err := tree.Open(h.Media.Open, digest, name)
	if err != nil {
		h.fail(w, r, fmt.Errorf("tree %s: %w", digest, err))
		return
	}
	defer func() { _ = file.Close() }()
	h.send(w, r, content{
		ReadSeeker: file, size: file.Size, contentType: "application/octet-stream", etag: `"` + file.ID + `"`,
	}, pxe.Observation{Stage: pxe.StageMedia, Message: name})
}

// initConfigPart hands out one of the documents of an init config that has several.
// As the first does, it consumes the claim; for its grace the machine may ask for the
// others.
func (h *Handlers) initConfigPart(w http.ResponseWriter, r *http.Request) {
	h.handOut(w, r, func(doc pxe.Document) (pxe.Document, bool) {
		part, ok := doc.Parts[r.PathValue("part")]
		return part, ok
	})
}
