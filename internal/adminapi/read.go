package adminapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
	"github.com/cardea-auth/cardea/scope"
)

// Bounds of what is read.
const (
	maxBody  = 1 << 20 // bytes
	maxDepth = 16      // of objects and arrays in one another
	maxParam = 4096    // bytes
)

// param is a parameter of an operation: a field of its In.
type param struct {
	name, in string // in is "path", "query" or "header"
	field    reflect.StructField
}

// params returns the parameters of an In, in their order.
func params(t reflect.Type) (found []param) {
	for _, f := range reflect.VisibleFields(t) {
		for _, in := range []string{"path", "query", "header"} {
			if name := f.Tag.Get(in); name != "" {
				found = append(found, param{name, in, f})
			}
		}
	}
	return found
}

// body returns the field of an In that the body is read into.
func body(t reflect.Type) (reflect.StructField, bool) { return t.FieldByName("Body") }

// refusal returns the problem of one fault.
func refusal(status int, location, format string, args ...any) *web.Problem {
	message := fmt.Sprintf(format, args...)
	p := &web.Problem{Status: status, Code: oauth.InvalidRequest, Detail: message}
	if location != "" {
		p.Errors = []web.Fault{{Location: location, Message: message}}
	}
	return p
}

// read returns what r says as a pointer to an In of the operation, and the text of its body.
func read(r *http.Request, s *Spec) (in any, text []byte, err error) {
	v := reflect.New(s.In)
	query, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, nil, err
	}
	var known []string
	for _, p := range params(s.In) {
		var value string
		switch p.in {
		case "path":
			value = r.PathValue(p.name)
		case "query":
			known = append(known, p.name)
			value = query.Get(p.name)
		case "header":
			value = r.Header.Get(p.name)
		}
		if value == "" {
			continue
		}
		if err := set(v.Elem().FieldByIndex(p.field.Index), p, value); err != nil {
			return nil, nil, err
		}
	}
	for name := range query {
		if !slices.Contains(known, name) {
			return nil, nil, refusal(http.StatusBadRequest, "query."+name, "the query parameter %q is unknown%s", name,
				hint(name, known))
		}
	}
	field, has := body(s.In)
	if text, err = readBody(r, s, has && field.Type.Kind() != reflect.Pointer); err != nil {
		return nil, nil, err
	}
	if !has && strings.Join(strings.Fields(string(text)), "") == "{}" { // which many programs send in place of nothing
		text = nil
	}
	if !has && len(text) > 0 {
		return nil, nil, refusal(http.StatusBadRequest, "body", "this operation takes no body")
	}
	if len(text) > 0 {
		err = decode(text, v.Elem().FieldByIndex(field.Index), s.Method == http.MethodPatch, strings.Fields(s.Required))
	}
	return v.Interface(), text, err
}

// parseQuery parses a query in which no parameter comes twice.
func parseQuery(raw string) (url.Values, error) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return nil, refusal(http.StatusBadRequest, "",
			"the query is not valid: escape special characters with percent signs")
	}
	for name, values := range query {
		switch {
		case !utf8.ValidString(name), strings.ContainsRune(name, 0):
			return nil, refusal(http.StatusBadRequest, "", "the query has a parameter whose name is not UTF-8 text")
		case len(values) > 1:
			return nil, refusal(http.StatusBadRequest, "query."+name, "the query parameter %q comes more than once",
				name)
		}
	}
	return query, nil
}

// set gives a field the value of its parameter.
func set(field reflect.Value, p param, value string) error {
	location := p.in + "." + p.name
	bad := func(want string) error {
		return refusal(http.StatusBadRequest, location, "%s must be %s", p.name, want)
	}
	switch {
	case len(value) > maxParam:
		return bad(fmt.Sprintf("at most %d bytes long", maxParam))
	case !utf8.ValidString(value), strings.ContainsRune(value, 0):
		return bad("UTF-8 text without the character NUL")
	}
	if allowed := p.field.Tag.Get("enum"); allowed != "" && !slices.Contains(strings.Split(allowed, ","), value) {
		return bad("one of " + strings.ReplaceAll(allowed, ",", ", "))
	}
	switch field.Interface().(type) {
	case string:
		field.SetString(value)
	case int:
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || n < 1 {
			return bad("a whole number, 1 or more")
		}
		field.SetInt(n)
	case bool:
		b, err := strconv.ParseBool(value)
		if err != nil {
			return bad("true or false")
		}
		field.SetBool(b)
	case time.Time:
		at, err := time.Parse(time.RFC3339, value)
		if err != nil || at.Year() < 1970 {
			return bad("a time like 2026-01-31T12:00:00Z (RFC 3339)")
		}
		field.Set(reflect.ValueOf(at))
	default:
		panic("adminapi: a parameter cannot be a " + field.Type().String())
	}
	return nil
}

// readBody reads the body, if there is one.
func readBody(r *http.Request, s *Spec, required bool) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, refusal(http.StatusBadRequest, "body", "the body could not be read to its end")
	case len(text) > maxBody:
		return nil, refusal(http.StatusRequestEntityTooLarge, "body", "the body is longer than %d bytes", maxBody)
	case len(text) == 0 && required:
		return nil, refusal(http.StatusBadRequest, "body", "the body is missing: send a JSON object")
	case len(text) == 0:
		return nil, nil
	}
	kinds := []string{"application/json"}
	if s.Method == http.MethodPatch {
		kinds = append(kinds, "application/merge-patch+json")
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || !slices.Contains(kinds, kind) {
		return nil, refusal(http.StatusUnsupportedMediaType, "header.Content-Type", "send the body as %s",
			strings.Join(kinds, " or "))
	}
	return text, nil
}

// decode reads text, which must be an object with the members of the struct that field is or points to, each once and
// spelled as it is. A member that is null is left out, unless patch: then it stands for the empty value, which is the
// default (RFC 7396 §2).
func decode(text []byte, field reflect.Value, patch bool, required []string) error {
	if err := scan(text); err != nil {
		return err
	}
	t := field.Type()
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	text, names := withoutNull(text, t, patch)
	err := json.Unmarshal(text, field.Addr().Interface(), json.RejectUnknownMembers(true))
	if err == nil {
		for _, name := range required {
			if !slices.Contains(names, name) {
				return refusal(http.StatusUnprocessableEntity, "body."+name, "the member %q is missing", name)
			}
		}
		return nil
	}
	semantic := (*json.SemanticError)(nil)
	if !errors.As(err, &semantic) {
		return refusal(http.StatusBadRequest, "body", "the body is not valid JSON")
	}
	location := "body" + path(semantic.JSONPointer)
	if errors.Is(err, json.ErrUnknownName) {
		name := semantic.JSONPointer.LastToken()
		return refusal(http.StatusUnprocessableEntity, location, "the member %q is unknown%s", name,
			hint(name, members(t, semantic.JSONPointer.Parent())))
	}
	return refusal(http.StatusUnprocessableEntity, location, "%s", expected(semantic))
}

// expected says what a value should have been.
func expected(e *json.SemanticError) string {
	what, t := "another value", e.GoType
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == nil:
	case t.Kind() == reflect.String:
		what = "a string"
	case t.Kind() == reflect.Bool:
		what = "true or false"
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int64:
		what = "a whole number"
	case t.Kind() == reflect.Slice:
		what = "an array"
	case t.Kind() == reflect.Struct, t.Kind() == reflect.Map:
		what = "an object"
	}
	name := e.JSONPointer.LastToken()
	if name == "" {
		name = "the body"
	}
	return fmt.Sprintf("%s must be %s", name, what)
}

// scan refuses what is not JSON, or goes beyond the bounds.
func scan(text []byte) error {
	d := jsontext.NewDecoder(bytes.NewReader(text))
	for first, done := true, false; ; first = false {
		token, err := d.ReadToken()
		location := "body" + path(d.StackPointer())
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, jsontext.ErrDuplicateName):
			syntactic := (*jsontext.SyntacticError)(nil)
			if errors.As(err, &syntactic) {
				location = "body" + path(syntactic.JSONPointer)
			}
			return refusal(http.StatusBadRequest, location, "a member comes more than once")
		case err != nil:
			return refusal(http.StatusBadRequest, location, "the body is not valid JSON in UTF-8")
		case done:
			return refusal(http.StatusBadRequest, "body", "the body has something after its end")
		case d.StackDepth() > maxDepth:
			return refusal(http.StatusBadRequest, "body", "objects and arrays stand in one another more than %d deep",
				maxDepth)
		case first && token.Kind() != '{':
			return refusal(http.StatusBadRequest, "body", "the body must be a JSON object")
		case token.Kind() == '"' && strings.ContainsRune(token.String(), 0):
			return refusal(http.StatusBadRequest, location, "a text has the character NUL")
		}
		done = d.StackDepth() == 0
	}
}

// withoutNull returns an object without its members that are null, or, for a patch, with the empty value of the member
// of t, and the names of the members that are left.
func withoutNull(text []byte, t reflect.Type, patch bool) (_ []byte, names []string) {
	var object map[string]jsontext.Value
	if json.Unmarshal(text, &object) != nil {
		return text, nil
	}
	changed := false
	for name, value := range object {
		if value.Kind() != 'n' {
			continue
		}
		member, known := fields(t)[name]
		switch {
		case !known: // it is refused
		case patch:
			object[name], changed = empty(member), true
		default:
			delete(object, name)
			changed = true
		}
	}
	if rewritten, err := json.Marshal(object); changed && err == nil {
		text = rewritten
	}
	return text, slices.Collect(maps.Keys(object))
}

// empty returns the empty value of a type as JSON.
func empty(t reflect.Type) jsontext.Value {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	text, err := json.Marshal(reflect.Zero(t).Interface())
	if t == reflect.TypeFor[[]byte]() || err != nil || t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
		return jsontext.Value("null")
	}
	return text
}

// fields returns the types of the members of an object that is read into a t, by name.
func fields(t reflect.Type) map[string]reflect.Type {
	found := map[string]reflect.Type{}
	if t.Kind() != reflect.Struct {
		return found
	}
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" && !f.Anonymous {
			found[name] = f.Type
		}
	}
	return found
}

// members returns the names of the members of the object at a place in a t.
func members(t reflect.Type, at jsontext.Pointer) (names []string) {
	for token := range at.Tokens() {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		switch t.Kind() {
		case reflect.Slice, reflect.Map:
			t = t.Elem()
		default:
			member := fields(t)[token]
			if member == nil {
				return nil
			}
			t = member
		}
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	for name := range fields(t) {
		names = append(names, name)
	}
	return names
}

// path returns a JSON pointer in the form of a location: ".scopes[0].name".
func path(pointer jsontext.Pointer) string {
	var b strings.Builder
	for token := range pointer.Tokens() {
		if _, err := strconv.Atoi(token); err == nil {
			b.WriteString("[" + token + "]")
		} else {
			b.WriteString("." + token)
		}
	}
	return b.String()
}

// hint says which of the known names a mistyped one is like.
func hint(name string, known []string) string {
	nearest := scope.Nearest(strings.ToLower(name), slices.Sorted(slices.Values(known)))
	if nearest == "" {
		return ""
	}
	return fmt.Sprintf("; the nearest is %q", nearest)
}
