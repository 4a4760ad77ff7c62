package initconfig

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What a kickstart file may say, of what ours says, written down from the kickstart
// documentation (https://pykickstart.readthedocs.io/en/latest/kickstart-docs.html),
// since pykickstart itself is in no Debian release that we test on. Options ending in
// = take a value. It is a subset, and anything else is a problem.
var kickstartCommands = map[string][]string{
	"cmdline":      nil,
	"reboot":       {"--eject", "--kexec"},
	"url":          {"--url=", "--mirrorlist=", "--proxy=", "--noverifyssl"},
	"eula":         {"--agreed"},
	"lang":         {"--addsupport="},
	"keyboard":     {"--vckeymap=", "--xlayouts="},
	"timezone":     {"--utc"},
	"network":      {"--bootproto=", "--device=", "--ip=", "--netmask=", "--gateway=", "--nameserver=", "--hostname=", "--onboot=", "--activate"},
	"rootpw":       {"--lock"},
	"firewall":     {"--enabled", "--disabled"},
	"selinux":      {"--enforcing", "--permissive", "--disabled"},
	"services":     {"--enabled=", "--disabled="},
	"firstboot":    {"--enabled", "--disabled"},
	"skipx":        nil,
	"ignoredisk":   {"--only-use=", "--drives="},
	"zerombr":      nil,
	"clearpart":    {"--all", "--initlabel", "--disklabel=", "--drives=", "--none"},
	"reqpart":      {"--add-boot"},
	"part":         {"--fstype=", "--size=", "--grow", "--ondisk="},
	"bootloader":   {"--leavebootorder", "--boot-drive=", "--append=", "--location="},
	"%include":     nil,
	"%packages":    {"--ignoremissing", "--excludedocs"},
	"%pre":         {"--erroronfail", "--interpreter=", "--log="},
	"%pre-install": {"--erroronfail", "--interpreter=", "--log="},
	"%post":        {"--erroronfail", "--interpreter=", "--log=", "--nochroot"},
	"%onerror":     {"--erroronfail", "--interpreter=", "--log="},
}

// Commands that take words that are no options, and how many.
var kickstartWords = map[string]int{"lang": 1, "timezone": 1, "part": 1, "%include": 1}

var (
	kickstartSections = []string{"%packages", "%pre", "%pre-install", "%post", "%onerror"}
	packageName       = regexp.MustCompile(`^(@\^?|-)?[a-z0-9][a-z0-9+._-]*$`)
)

// kickstartProblems says what is wrong in a kickstart file, reading it as Anaconda
// does: a section ends at the first line %end, in a script too.
func kickstartProblems(text string) []string {
	var problems []string
	section := ""
	seen := map[string]int{}
	for i, line := range strings.Split(text, "\n") {
		say := func(format string, args ...any) {
			problems = append(problems, fmt.Sprintf("line %d: ", i+1)+fmt.Sprintf(format, args...))
		}
		words := strings.Fields(line)
		first := ""
		if len(words) > 0 {
			first = words[0]
		}
		switch {
		case section != "" && first == "%end":
			section = ""
			continue
		case section != "" && (slices.Contains(kickstartSections, first) || first == "%include" || first == "%ksappend" || first == "%addon"):
			say("%s inside of %s", first, section)
			continue
		case section == "%packages":
			if line != "" && !packageName.MatchString(line) {
				say("%q is no package", line)
			}
			continue
		case section != "", first == "", strings.HasPrefix(first, "#"):
			continue
		case slices.Contains(kickstartSections, first):
			section = first
		}
		problems = append(problems, commandProblems(i+1, words)...)
		seen[first]++
		if !strings.HasPrefix(first, "%") && seen[first] > 1 {
			say("%s a second time", first)
		}
	}
	if section != "" {
		problems = append(problems, "there is no end of "+section)
	}
	if !strings.HasSuffix(text, "%end\n") {
		problems = append(problems, "the file does not end with a section")
	}
	for _, command := range []string{"url", "network", "rootpw", "%include", "%packages", "%pre", "%post", "%onerror"} {
		if seen[command] == 0 {
			problems = append(problems, "there is no "+command)
		}
	}
	if want := map[string]int{"%pre": 1, "%pre-install": 1, "%post": 2, "%onerror": 1, "%packages": 1}; true {
		for name, n := range want {
			if seen[name] != n {
				problems = append(problems, fmt.Sprintf("%s is there %d times, want %d", name, seen[name], n))
			}
		}
	}
	return problems
}

func commandProblems(number int, words []string) []string {
	var problems []string
	say := func(format string, args ...any) {
		problems = append(problems, fmt.Sprintf("line %d: ", number)+fmt.Sprintf(format, args...))
	}
	options, known := kickstartCommands[words[0]]
	if !known {
		say("%s is no command", words[0])
		return problems
	}
	plainWords := 0
	for _, word := range words[1:] {
		if strings.ContainsAny(word, "'\"\\#") {
			say("%s needs quoting", word)
		}
		if !strings.HasPrefix(word, "--") {
			plainWords++
			continue
		}
		name, value, hasValue := strings.Cut(word, "=")
		if hasValue {
			name += "="
		}
		if !slices.Contains(options, name) || hasValue && value == "" {
			say("%s has no option %s", words[0], word)
		}
	}
	if plainWords != kickstartWords[words[0]] {
		say("%s has %d words, want %d", words[0], plainWords, kickstartWords[words[0]])
	}
	return problems
}

// section is the body of the n-th section of a name.
func section(t testing.TB, text, name string, n int) string {
	t.Helper()
	parts := regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(name)+`(?: .*)?$`).Split(text, -1)
	if len(parts) <= n {
		t.Fatalf("there is no %s number %d", name, n)
	}
	body, _, ok := strings.Cut(parts[n], "\n%end\n")
	if !ok {
		t.Fatalf("%s does not end", name)
	}
	return strings.TrimPrefix(body, "\n") + "\n"
}

func TestTheKickstartFileIsOfItsGrammar(t *testing.T) {
	text := string(rendered(t, Kickstart{}, installed())[KickstartFile])
	for _, p := range kickstartProblems(text) {
		t.Error(p)
	}
	// What %pre writes is read as a part of the file.
	_, storage, ok := strings.Cut(section(t, text, "%pre", 1), "<<STORAGE\n")
	storage, _, end := strings.Cut(storage, "STORAGE\n")
	if !ok || !end {
		t.Fatal("no storage.ks is written before the installation")
	}
	for i, line := range strings.Split(strings.TrimSpace(strings.ReplaceAll(storage, "$name", "vda")), "\n") {
		for _, p := range commandProblems(i+1, strings.Fields(line)) {
			t.Error("storage.ks:", p)
		}
	}
}

func TestTheCheckOfTheGrammarFindsFaults(t *testing.T) {
	good := string(rendered(t, Kickstart{}, installed())[KickstartFile])
	for fault, text := range map[string]string{
		"is no command":      strings.Replace(good, "skipx", "skipy", 1),
		"has no option":      strings.Replace(good, "--lock", "--locked", 1),
		"no option --url=":   strings.Replace(good, "http://192.168.1.2:7480/tree/0123/os/", "", 1),
		"there is no end of": strings.TrimSuffix(good, "%end\n"),
		"inside of %post":    strings.Replace(good, "umask 022\nroot=\nmkdir -p /etc/example", "%include /etc/shadow\n", 1) + "%post\n%include x\n%end\n",
		"is no package":      strings.Replace(good, "ethtool\n", "eth tool\n", 1),
		"needs quoting":      strings.Replace(good, "--hostname=alpha", "--hostname='a", 1),
		"a second time":      strings.Replace(good, "skipx\n", "skipx\nskipx\n", 1),
	} {
		if got := strings.Join(kickstartProblems(text), "\n"); !strings.Contains(got, fault) {
			t.Errorf("%s: not found, but %q", fault, got)
		}
	}
}
