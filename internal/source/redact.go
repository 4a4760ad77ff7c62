package source

import "regexp"

var userInfo = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s@"']*@`)

// Redact takes user names and passwords out of the URLs in a text.
func Redact(text string) string { return userInfo.ReplaceAllString(text, "$1") }
