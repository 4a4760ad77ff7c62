package media

import (
	"errors"
	"fmt"
	"net/http"
	"syscall"
)

// ChecksumError is a file that is not what it should be. It is not kept.
type ChecksumError struct {
	URL       string
	Want, Got string // SHA-256, 64 hexadecimal digits
	Size      int64  // bytes that were read
	HTML      bool   // the server called it a web page
}

// Error implements error.
func (e *ChecksumError) Error() string {
	hint := "correct the digest if it is the publisher's that is declared wrongly, otherwise do not use this source"
	if e.HTML {
		hint = "the server sent a web page: open the URL in a browser, there may be a login or a captive portal in the way"
	}
	return fmt.Sprintf("wrong checksum of %s: expected SHA-256 %s, got %s (%d bytes); %s", e.URL, e.Want, e.Got, e.Size, hint)
}

// StatusError is an HTTP answer that is not the file.
type StatusError struct {
	URL    string
	Code   int
	Status string // code and words
}

// Error implements error.
func (e *StatusError) Error() string {
	hint := "try again later or name another mirror"
	switch e.Code {
	case http.StatusNotFound, http.StatusGone:
		hint = "the file is not there (any more): correct the URL, or name a release that is still published"
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		hint = "the server or a proxy refuses: name a URL that needs no login"
	}
	return fmt.Sprintf("cannot download %s: the server answers %s; %s", e.URL, e.Status, hint)
}

// temporary says whether the same request may succeed later.
func (e *StatusError) temporary() bool {
	return e.Code >= 500 && e.Code != http.StatusNotImplemented ||
		e.Code == http.StatusRequestTimeout || e.Code == http.StatusTooManyRequests || e.Code == http.StatusTooEarly
}

// SpaceError is a disk without room for a file.
type SpaceError struct {
	Dir string
	Err error
}

// Error implements error.
func (e *SpaceError) Error() string {
	return fmt.Sprintf("no room left in the media cache %s (%v): free some space there or choose a cache directory on another disk, then start again; what was downloaded is kept", e.Dir, e.Err)
}

// Unwrap gives the system's error.
func (e *SpaceError) Unwrap() error { return e.Err }

// full turns a write error that means a full disk into a SpaceError.
func (c *Cache) full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &SpaceError{Dir: c.dir, Err: err}
	}
	return err
}
