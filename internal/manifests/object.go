package manifests

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"

	"github.com/rhizome-dev/rhizome/internal/inventory"
)

// placeholder begins every value that the example leaves to a person.
const placeholder = "FILL-IN"

// object does to one object, in the same order, what the API server does to one
// that is created: find unknown fields, drop nulls, set defaults, validate.
func (r *reader) object(path string, k *kind, head typeMeta, value map[string]any, l lines) {
	toFill := map[string]bool{}
	findPlaceholders(value, "", func(f string) { toFill[f] = true })
	find := func(rule, f, message, fix string) {
		if rule != rulePlaceholder && toFill[f] {
			return
		}
		r.find(Finding{Rule: rule, Object: head.String(), File: path, Line: l.at(f), Field: f, Message: message, Fix: fix})
	}
	for _, f := range slices.Sorted(maps.Keys(toFill)) {
		find(rulePlaceholder, f, "is still to be filled in", hint(f))
	}
	if _, ok := value["status"]; ok {
		find(ruleStatus, "status", "is dropped: controllers write it", "remove it")
		delete(value, "status")
	}

	meta, found, unknown, err := objectmeta.GetObjectMetaWithOptions(value, objectmeta.ObjectMetaOptions{DropMalformedFields: true, ReturnUnknownFieldPaths: true})
	if err == nil {
		// Malformed metadata is dropped above and refused here.
		_, _, err = objectmeta.GetObjectMeta(value, false)
	}
	if err != nil {
		find(ruleSchema, "metadata", err.Error(), "correct it")
	}
	unknown = append(unknown, pruning.PruneWithOptions(value, k.schema, true, structural.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})...)
	for _, f := range unknown {
		find(ruleUnknownField, f, "unknown field", knownFields(k.schema, f))
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(value, k.schema)
	defaulting.Default(value, k.schema)
	if found {
		if err := objectmeta.SetObjectMeta(value, meta); err != nil {
			find(ruleSchema, "metadata", err.Error(), "correct it")
		}
	}
	generated := meta != nil && meta.Name == "" && meta.GenerateName != ""
	if generated {
		find(ruleGeneratedName, "metadata.generateName", "generates another name each time", "write metadata.name")
	}

	// Two of the server's checks may find one and the same.
	said := map[string]bool{}
	errs := k.validate(value)
	for _, e := range errs {
		f := strings.TrimPrefix(e.Field, "<nil>")
		message := inWords(e)
		if said[f+message] || generated && f == "metadata.name" {
			continue
		}
		said[f+message] = true
		find(ruleSchema, f, message, advice(e))
	}
	r.keep(path, k.name, value, errs, l)
}

// validate is the API server's validation of a new object.
func (k *kind) validate(value map[string]any) field.ErrorList {
	u := &unstructured.Unstructured{Object: value}
	errs := apivalidation.ValidateObjectMetaAccessor(u, false, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
	errs = append(errs, validation.ValidateCustomResource(nil, value, k.validator)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, k.schema, value)...)
	if slices.ContainsFunc(errs, blocksRules) {
		return errs
	}
	if rules := k.rules(); rules != nil {
		more, _ := rules.Validate(context.Background(), nil, k.schema, value, nil, celconfig.RuntimeCELCostBudget)
		errs = append(errs, more...)
	}
	return errs
}

// blocksRules says whether an error keeps the API server from evaluating CEL
// rules, which count on sound types.
func blocksRules(e *field.Error) bool {
	switch e.Type {
	case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
		return true
	}
	return false
}

// inWords is what a validation error says, without what says nothing: where the
// API server names a value only by its type (Invalid value: "object"), and the field
// once more.
func inWords(e *field.Error) string {
	message := e.ErrorBody()
	if value, ok := e.BadValue.(map[string]any); ok && e.Type == field.ErrorTypeDuplicate {
		if text, err := json.Marshal(value); err == nil {
			return e.Type.String() + ": " + string(text)
		}
	}
	if e.Type != field.ErrorTypeInvalid && e.Type != field.ErrorTypeTypeInvalid {
		return message
	}
	if name, ok := e.BadValue.(string); ok && slices.Contains(typeNames, name) && e.Detail != "" {
		message = e.Detail
	}
	return strings.TrimPrefix(message, e.Field+" in body ")
}

// typeNames are OpenAPI's.
var typeNames = []string{"array", "boolean", "integer", "null", "number", "object", "string"}

// advice says what to do about a validation error that does not say it itself.
func advice(e *field.Error) string {
	switch e.Type {
	case field.ErrorTypeRequired:
		return "add it"
	case field.ErrorTypeForbidden:
		return "remove it"
	case field.ErrorTypeDuplicate:
		return "remove one of the two"
	case field.ErrorTypeNotSupported:
		return "write one of these"
	}
	return "correct it"
}

// hint says where a person finds what only they can know.
func hint(f string) string {
	switch f[strings.LastIndex(f, ".")+1:] {
	case "mac":
		return "write the MAC address of the machine's network card in lower case with colons: it is on the machine's label, in its firmware setup and in the router's list of devices"
	case "sha256":
		return "write the file's SHA-256 digest as its publisher prints it, or download the file, verify it by the publisher's signature or sums and write what sha256sum prints"
	}
	return "write the value that is right for you"
}

// findPlaceholders calls found with the path of every string that is still to be
// filled in.
func findPlaceholders(v any, path string, found func(path string)) {
	switch v := v.(type) {
	case string:
		if strings.HasPrefix(v, placeholder) {
			found(path)
		}
	case map[string]any:
		for key, item := range v {
			child := key
			if path != "" {
				child = path + "." + key
			}
			findPlaceholders(item, child, found)
		}
	case []any:
		for i, item := range v {
			findPlaceholders(item, path+"["+strconv.Itoa(i)+"]", found)
		}
	}
}

var index = regexp.MustCompile(`\[\d+\]`)

// knownFields lists what may stand where an unknown field stands.
func knownFields(s *structural.Structural, f string) string {
	steps := strings.Split(f, ".")
	for _, step := range steps[:len(steps)-1] {
		child, ok := s.Properties[index.ReplaceAllString(step, "")]
		if !ok {
			return "remove it or correct its spelling"
		}
		for range index.FindAllString(step, -1) {
			if child.Items == nil {
				return "remove it or correct its spelling"
			}
			child = *child.Items
		}
		s = &child
	}
	var known []string
	for name := range s.Properties {
		if name != "status" {
			known = append(known, name)
		}
	}
	if len(known) == 0 {
		return "remove it or correct its spelling"
	}
	slices.Sort(known)
	return fmt.Sprintf("remove it or correct its spelling: known here are %s", strings.Join(known, ", "))
}

// origin of an object.
func (l lines) origin(path string) inventory.Origin {
	return inventory.Origin{File: path, Line: l.first, Fields: l.fields}
}
