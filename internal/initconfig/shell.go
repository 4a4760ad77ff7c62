package initconfig

import (
	"bytes"
	"embed"
	"encoding/base64"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"text/template"
)

//go:embed *.tmpl
var templateFiles embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{"join": joined[netip.Addr]}).ParseFS(templateFiles, "*.tmpl"))

// render fills a template in. Everything in v that was not made by writeFiles was
// checked to need no quoting where the template puts it.
func render(name string, v any) ([]byte, error) {
	var out bytes.Buffer
	if err := templates.ExecuteTemplate(&out, name, v); err != nil {
		return nil, fmt.Errorf("cannot render the init config: %w", err)
	}
	return out.Bytes(), nil
}

func joined[T fmt.Stringer](values []T, separator string) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = v.String()
	}
	return strings.Join(words, separator)
}

//go:embed installer.sh
var installerScript []byte

// What ends a file in a shell script: in one that is itself a file of another, and
// in the outer one.
const (
	endOfFile = "RHIZOME-END"
	endOfPart = "RHIZOME-PART-END"
)

// shellWord quotes a word so that a POSIX shell reads it as it is. A NUL cannot be
// said in a shell; what is behind it would be lost, so it is left out.
func shellWord(s string) string {
	s = strings.ReplaceAll(s, "\x00", "")
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("-._/:=,+@%", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// writeFiles is a shell script that writes files below the directory that the
// variable root names, each with its permissions from the first byte on. Text stands
// there as it is; what cannot (bytes that are no text, no newline at the end, a line
// that kickstart would read as its own, end itself) in base64.
func writeFiles(files []File, end string) string {
	var out strings.Builder
	made := map[string]bool{}
	for _, f := range files {
		dir := path.Dir(f.Path)
		if !made[dir] {
			made[dir] = true
			fmt.Fprintf(&out, "mkdir -p \"$root\"%s\n", shellWord(dir))
		}
		fmt.Fprintf(&out, "(umask 077; : >\"$root\"%s)\n", shellWord(f.Path))
		switch {
		case len(f.Content) == 0:
		case heredoc(f.Content, end):
			fmt.Fprintf(&out, "cat >\"$root\"%s <<'%s'\n%s%s\n", shellWord(f.Path), end, f.Content, end)
		default:
			fmt.Fprintf(&out, "base64 -d >\"$root\"%s <<'%s'\n%s%s\n", shellWord(f.Path), end, wrapped(f.Content), end)
		}
		fmt.Fprintf(&out, "chmod %s \"$root\"%s\n", f.permissions(), shellWord(f.Path))
	}
	if slices.ContainsFunc(files, func(f File) bool { return path.Dir(f.Path) == "/root/.ssh" }) {
		out.WriteString("chmod 0700 \"$root\"/root/.ssh\n")
	}
	return out.String()
}

// heredoc says whether a text can stand in a script between the lines of a here
// document. Kickstart reads a line that begins with a percent sign as its own even
// there.
func heredoc(content []byte, end string) bool {
	if !plain(content) || !bytes.HasSuffix(content, []byte("\n")) {
		return false
	}
	for line := range bytes.Lines(content) {
		if bytes.HasPrefix(bytes.TrimSpace(line), []byte("%")) || string(bytes.TrimSpace(line)) == end {
			return false
		}
	}
	return true
}

// wrapped is base64 in lines of 76 characters.
func wrapped(content []byte) string {
	var out strings.Builder
	for line := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString(content)), 76) {
		out.Write(line)
		out.WriteByte('\n')
	}
	return out.String()
}

// installerFiles are what installer.sh needs, and it itself, in a directory of the
// installer's own system, which is in memory.
func (i Installation) installerFiles(dir string) []File {
	var config strings.Builder
	config.WriteString("# What rhizome-installer goes by: see there.\n")
	for _, u := range i.ReportURLs {
		fmt.Fprintf(&config, "report %s\n", u)
	}
	for _, h := range []struct{ name, value string }{
		{"path", i.Disk.Path}, {"serial", i.Disk.Serial}, {"wwn", i.Disk.WWN},
	} {
		if h.value != "" {
			fmt.Fprintf(&config, "%s %s\n", h.name, h.value)
		}
	}
	for _, h := range []struct {
		name  string
		value int64
	}{{"min", i.Disk.MinBytes}, {"max", i.Disk.MaxBytes}} {
		if h.value > 0 {
			fmt.Fprintf(&config, "%s %d\n", h.name, h.value)
		}
	}
	ca := bytes.TrimSpace(i.CA)
	return []File{
		{Path: dir + "/rhizome.conf", Content: []byte(config.String())},
		{Path: dir + "/ca.pem", Content: append(slices.Clone(ca), '\n')},
		{Path: dir + "/claim", Content: []byte("Authorization: Bearer " + i.Claim + "\n"), Mode: 0o600},
		{Path: dir + "/rhizome-installer", Content: installerScript, Mode: 0o755},
	}
}
