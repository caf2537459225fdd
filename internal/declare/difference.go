package declare

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/cardea-auth/cardea/internal/admin"
)

// Verb says how a record is changed.
type Verb string

// The verbs.
const (
	Create Verb = "create"
	Update Verb = "update"
	Delete Verb = "delete"
)

// Change is one record that is created, updated or deleted.
type Change struct {
	Verb        Verb         `json:"verb"`
	Noun        string       `json:"noun"` // "group", "resource" or "client"
	ID          string       `json:"id"`   // what the file knows it by
	Name        string       `json:"name"`
	Differences []Difference `json:"differences"`
	Grants      int          `json:"grants_ended"`              // those that were in force
	Members     int          `json:"members_removed,omitempty"` // of a group that is deleted
}

// Difference is a change of one member of a record, or of one item of a list: Before is "" if the item is added, and
// After is "" if it is removed. If only the order of a list changes, Before and After have all of it.
type Difference struct {
	Path   string `json:"path"` // such as client_name, or scopes[mcp:tools:weather].description
	Before string `json:"before"`
	After  string `json:"after"`
}

// differences returns what is different between two records of one type.
func differences[T any](before, after T) []Difference {
	return compare("", reflect.ValueOf(before), reflect.ValueOf(after))
}

func compare(prefix string, before, after reflect.Value) (found []Difference) {
	for i := range before.NumField() {
		field := before.Type().Field(i)
		key := keyOf(field)
		if _, isID := field.Tag.Lookup("id"); isID || key == "" {
			continue
		}
		was, is := before.Field(i), after.Field(i)
		if field.Type.Kind() == reflect.Pointer {
			was, is = pointed(was), pointed(is)
		}
		switch path := prefix + key; {
		case path == "scope": // a list, as RFC 6749 §3.3 writes one
			found = append(found, compareLists(path, strings.Fields(was.String()), strings.Fields(is.String()))...)
		case was.Kind() == reflect.Slice && was.Type().Elem().Kind() == reflect.Struct:
			found = append(found, compareRecords(path, was, is)...)
		case was.Kind() == reflect.Slice && was.Type().Elem().Kind() == reflect.String:
			found = append(found, compareLists(path, was.Interface().([]string), is.Interface().([]string))...)
		default:
			if old, now := text(was), text(is); old != now {
				found = append(found, Difference{path, old, now})
			}
		}
	}
	return found
}

// pointed returns what v points to, or the zero Value of that type.
func pointed(v reflect.Value) reflect.Value {
	if v.IsNil() {
		return reflect.Zero(v.Type().Elem())
	}
	return v.Elem()
}

// text returns a value as the file has it, "" for one that is not there.
func text(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case Span:
		if value == 0 {
			return ""
		}
		return admin.Span(value).String()
	case Keys:
		return canonical(value)
	case bool:
		if !value {
			return ""
		}
		return strconv.FormatBool(value)
	}
	return v.String()
}

// compareLists compares lists of text, each without repetitions.
func compareLists(path string, was, is []string) (found []Difference) {
	old, now := map[string]bool{}, map[string]bool{}
	for _, item := range was {
		old[item] = true
	}
	for _, item := range is {
		now[item] = true
	}
	for _, item := range was {
		if !now[item] {
			found = append(found, Difference{path, item, ""})
		}
	}
	for _, item := range is {
		if !old[item] {
			found = append(found, Difference{path, "", item})
		}
	}
	if len(found) == 0 && !slices.Equal(was, is) {
		found = append(found, Difference{path, strings.Join(was, ", "), strings.Join(is, ", ")})
	}
	return found
}

// compareRecords compares lists of records, whose first field is their name.
func compareRecords(path string, was, is reflect.Value) []Difference {
	names := func(list reflect.Value) (names []string) {
		for i := range list.Len() {
			names = append(names, list.Index(i).Field(0).String())
		}
		return names
	}
	old := names(was)
	found := compareLists(path, old, names(is))
	for i, name := range names(is) {
		before := reflect.Zero(is.Type().Elem())
		if n := slices.Index(old, name); n >= 0 {
			before = was.Index(n)
		}
		found = append(found, compare(path+"["+name+"].", before, is.Index(i))...)
	}
	return found
}
