package manifests

import "github.com/rhizome-dev/rhizome/internal/inventory"

// The names of the rules.
const (
	ruleUnreadable    = "UnreadableFile"
	ruleTooLarge      = "FileTooLarge"
	ruleLinkOutside   = "LinkOutside"
	ruleSyntax        = "Syntax"
	ruleKind          = "UnknownKind"
	ruleVersion       = "UnknownVersion"
	ruleList          = "InList"
	ruleUnknownField  = "UnknownField"
	ruleDuplicateKey  = "DuplicateKey"
	ruleSchema        = "Schema"
	rulePlaceholder   = "FillIn"
	ruleStatus        = "StatusSet"
	ruleGeneratedName = "GeneratedName"
)

// Rules are the rules that manifests are read by.
func Rules() []inventory.Rule {
	return []inventory.Rule{
		{Name: ruleUnreadable, Severity: inventory.Error, Says: "every YAML file can be read", Why: "an object in it would be missed"},
		{Name: ruleTooLarge, Severity: inventory.Warning, Says: "a YAML file is not larger than 8 MiB, and there are not more than 10000 of them, nor of our objects", Why: "what is beyond is not read"},
		{Name: ruleLinkOutside, Severity: inventory.Warning, Says: "a linked file lies within the directory", Why: "the repository would mean something else on another machine; it is not read"},
		{Name: ruleSyntax, Severity: inventory.Error, Says: "a manifest of our group is correct YAML", Why: "it could not be applied"},
		{Name: ruleDuplicateKey, Severity: inventory.Error, Says: "a field is written once in its object", Why: "one of the two would be ignored without a word"},
		{Name: ruleKind, Severity: inventory.Error, Says: "a kind of the group rhizome.dev is one that exists", Why: "the API server would refuse it"},
		{Name: ruleVersion, Severity: inventory.Error, Says: "the version of the group rhizome.dev is v1alpha1, and an object of our kinds has an apiVersion", Why: "the API server would refuse it"},
		{Name: ruleList, Severity: inventory.Error, Says: "an object of our group is a document of its own, not an item of a List", Why: "it would be missed"},
		{Name: ruleGeneratedName, Severity: inventory.Error, Says: "an object has a name of its own, not a generated one", Why: "each application would make another object"},
		{Name: ruleUnknownField, Severity: inventory.Error, Says: "every field is one of the schema", Why: "a misspelt field would be ignored without a word"},
		{Name: rulePlaceholder, Severity: inventory.Error, Says: "no value begins with FILL-IN", Why: "the example leaves to you what only you can know"},
		{Name: ruleSchema, Severity: inventory.Error, Says: "an object satisfies its schema and its validation rules (CEL)", Why: "the API server would refuse it"},
		{Name: ruleStatus, Severity: inventory.Warning, Says: "a manifest has no status", Why: "the API server drops it: a status is written by controllers"},
	}
}

var severities = func() map[string]inventory.Severity {
	m := map[string]inventory.Severity{}
	for _, r := range Rules() {
		m[r.Name] = r.Severity
	}
	return m
}()
