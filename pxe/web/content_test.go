package web

import (
	"net/http"
	"testing"
	"time"
)

// The examples are those of RFC 9110 §13 and §14, for a file of 1 000 bytes.
func TestWhichPartOfAFileIsWanted(t *testing.T) {
	const etag, size = `"abc"`, 1000
	changed := time.Date(2026, 11, 1, 12, 0, 0, 500, time.UTC)
	const before, at, after = "Sun, 01 Nov 2026 11:59:59 GMT", "Sun, 01 Nov 2026 12:00:00 GMT", "Sun, 01 Nov 2026 12:00:01 GMT"
	whole, none, failed, outside := part{200, 0, size}, part{status: http.StatusNotModified}, part{status: http.StatusPreconditionFailed}, part{status: http.StatusRequestedRangeNotSatisfiable}
	b := func(s string) []byte { return []byte(s) }
	for name, c := range map[string]struct {
		conditions
		want part
	}{
		"nothing said":                     {conditions{}, whole},
		"first bytes":                      {conditions{span: b("bytes=0-499")}, part{206, 0, 500}},
		"from the middle":                  {conditions{span: b("bytes=500-")}, part{206, 500, 500}},
		"last bytes":                       {conditions{span: b("bytes=-1")}, part{206, 999, 1}},
		"more than all of it, from behind": {conditions{span: b("bytes=-5000")}, part{206, 0, 1000}},
		"beyond the end":                   {conditions{span: b("bytes=990-2000")}, part{206, 990, 10}},
		"from behind the end":              {conditions{span: b("bytes=1000-")}, outside},
		"no last bytes":                    {conditions{span: b("bytes=-0")}, outside},
		"end before the start":             {conditions{span: b("bytes=5-4")}, outside},
		"no number":                        {conditions{span: b("bytes=x-")}, outside},
		"two ranges":                       {conditions{span: b("bytes=0-1,5-6")}, whole},
		"another unit":                     {conditions{span: b("lines=0-1")}, whole},
		"range of this version":            {conditions{span: b("bytes=5-"), ifRange: b(etag)}, part{206, 5, 995}},
		"range of another version":         {conditions{span: b("bytes=5-"), ifRange: b(`"x"`)}, whole},
		"range of a weak version":          {conditions{span: b("bytes=5-"), ifRange: b("W/" + etag)}, whole},
		"range of this time":               {conditions{span: b("bytes=5-"), ifRange: b(at)}, part{206, 5, 995}},
		"range of another time":            {conditions{span: b("bytes=5-"), ifRange: b(after)}, whole},
		"not this":                         {conditions{noneMatch: b(`"x", W/"abc"`)}, none},
		"none at all":                      {conditions{noneMatch: b("*")}, none},
		"not another":                      {conditions{noneMatch: b(`"x"`)}, whole},
		"not another, whatever the time":   {conditions{noneMatch: b(`"x"`), modifiedSince: b(after)}, whole},
		"if changed since before":          {conditions{modifiedSince: b(before)}, whole},
		"if changed since":                 {conditions{modifiedSince: b(at)}, none},
		"if changed since some day":        {conditions{modifiedSince: b("some day")}, whole},
		"only this":                        {conditions{match: b(`"x", "abc"`)}, whole},
		"only this, weakly":                {conditions{match: b(`W/"abc"`)}, failed},
		"only another":                     {conditions{match: b(`"x"`)}, failed},
		"any":                              {conditions{match: b("*")}, whole},
		"if unchanged since before":        {conditions{unmodifiedSince: b(before)}, failed},
		"if unchanged since":               {conditions{unmodifiedSince: b(at)}, whole},
		"this, whatever the time":          {conditions{match: b(etag), unmodifiedSince: b(before)}, whole},
		"a condition before a range":       {conditions{noneMatch: b(etag), span: b("bytes=0-1")}, none},
	} {
		if got := chosen(c.conditions, etag, changed, size); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	if got := chosen(conditions{modifiedSince: b(after)}, etag, time.Time{}, size); got != whole {
		t.Errorf("a file whose time is not known: %+v, want all of it", got)
	}
}
