package report

import "testing"

// Whatever comes with a 403 is a refusal, with a rule and something to say.
func FuzzParseRefusal(f *testing.F) {
	f.Add([]byte(`{"rule":"ClaimExpired","message":"open a new one"}`))
	f.Add([]byte(`{"rule":1}`))
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if r := ParseRefusal(body); r == nil || r.Rule == "" {
			t.Errorf("%q gives %+v", body, r)
		}
	})
}
