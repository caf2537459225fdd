package adminapi

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/cardea-auth/cardea/internal/admin"
)

// known are the schemas of types whose JSON their Go form does not show.
var known = map[reflect.Type]*jsonschema.Schema{
	reflect.TypeFor[admin.Moment]():    {Types: []string{"null", "string"}, Format: "date-time"},
	reflect.TypeFor[admin.Span]():      {Type: "integer", Description: "Seconds."},
	reflect.TypeFor[json.RawMessage](): {Type: "object"},
	reflect.TypeFor[time.Time]():       {Type: "string", Format: "date-time"},
}

// schema returns the schema of a type.
func schema(t reflect.Type) *jsonschema.Schema {
	s, err := jsonschema.ForType(t, &jsonschema.ForOptions{TypeSchemas: known})
	if err != nil {
		panic("adminapi: " + err.Error()) // the table is at fault, and every test sees it
	}
	return s
}

// InputSchema returns the schema of an object with all parameters of an operation and the members of its body.
func InputSchema(s *Spec) *jsonschema.Schema {
	merged := &jsonschema.Schema{Type: "object", Properties: map[string]*jsonschema.Schema{},
		AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}}}
	for _, p := range params(s.In) {
		merged.Properties[p.name] = paramSchema(p)
		merged.Properties[p.name].Description = p.field.Tag.Get("doc")
		if p.in == "path" {
			merged.Required = append(merged.Required, p.name)
		}
	}
	if field, ok := body(s.In); ok {
		of := bodySchema(s, field)
		for name, property := range of.Properties {
			merged.Properties[name] = property
		}
		merged.Required = append(merged.Required, of.Required...)
	}
	return merged
}

// OutputSchema returns the schema of the answer of an operation.
func OutputSchema(s *Spec) *jsonschema.Schema { return schema(s.Out) }

// bodySchema returns the schema of the body: of a patch, every member may be left out, and be null.
func bodySchema(s *Spec, field reflect.StructField) *jsonschema.Schema {
	t := field.Type
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	of := schema(t)
	of.Required = strings.Fields(s.Required)
	for name, member := range fields(t) {
		property := of.Properties[name]
		if property == nil {
			continue
		}
		optional := s.Method == http.MethodPatch || member.Kind() == reflect.Pointer ||
			member.Kind() == reflect.Slice || member.Kind() == reflect.Map
		if !optional {
			continue
		}
		if property.Type != "" {
			property.Types, property.Type = []string{"null", property.Type}, ""
		}
	}
	return of
}

func paramSchema(p param) *jsonschema.Schema {
	of := schema(p.field.Type)
	if allowed := p.field.Tag.Get("enum"); allowed != "" {
		for value := range strings.SplitSeq(allowed, ",") {
			of.Enum = append(of.Enum, value)
		}
	}
	if of.Type == "integer" {
		one := 1.0
		of.Minimum = &one
	}
	return of
}

type object = map[string]any

// Document returns the OpenAPI 3.1 document of the API of the server with that issuer.
func Document(issuer string) json.RawMessage {
	paths := map[string]object{}
	schemas := object{"Problem": object{
		"type": "object", "required": []string{"title", "status", "error"},
		"properties": object{
			"title": object{"type": "string"}, "status": object{"type": "integer"}, "detail": object{"type": "string"},
			"error": object{"type": "string"}, "noun": object{"type": "string"}, "id": object{"type": "string"},
			"errors": object{"type": "array",
				"items": object{"type": "object", "required": []string{"location", "message"},
					"properties": object{"location": object{"type": "string"}, "message": object{"type": "string"}}}},
		},
	}}
	for _, e := range entries {
		s := e.spec()
		if paths[s.Path] == nil {
			paths[s.Path] = object{}
		}
		paths[s.Path][strings.ToLower(s.Method)] = describe(s, schemas)
	}
	scopes := object{}
	for _, s := range admin.BuiltInScopes() {
		scopes[s.Name] = s.Description
	}
	text, err := json.Marshal(object{
		"openapi": "3.1.0",
		"info": object{"title": "Cardea Admin API", "version": "1",
			"description": "What operators of Cardea do, for programs."},
		"servers": []object{{"url": issuer + Prefix}},
		"paths":   paths,
		"components": object{"schemas": schemas, "securitySchemes": object{"token": object{
			"type":        "oauth2",
			"description": "An access token of this server for the resource " + issuer + admin.APIPath + ".",
			"flows": object{
				"clientCredentials": object{"tokenUrl": issuer + "/oauth2/token", "scopes": scopes},
				"authorizationCode": object{"authorizationUrl": issuer + "/oauth2/authorize",
					"tokenUrl": issuer + "/oauth2/token", "scopes": scopes},
			},
		}}},
	})
	if err != nil {
		panic("adminapi: " + err.Error()) // the table is at fault, and every test sees it
	}
	return text
}

// describe returns an operation in the form of the document, and adds the schemas of its body and answer to schemas.
func describe(s *Spec, schemas object) object {
	operation := object{
		"operationId": s.Name(), "summary": s.Summary, "tags": []string{string(s.Noun)},
		"security": security(s),
	}
	if s.Destroys {
		operation["x-destructive"] = true
	}
	parameters := []object{}
	for _, p := range params(s.In) {
		one := object{"name": p.name, "in": p.in, "required": p.in == "path", "schema": paramSchema(p)}
		if words := p.field.Tag.Get("doc"); words != "" {
			one["description"] = words
		}
		parameters = append(parameters, one)
	}
	operation["parameters"] = parameters
	if field, ok := body(s.In); ok {
		name := s.Name() + "_body"
		schemas[name] = bodySchema(s, field)
		content := object{"application/json": reference(name)}
		if s.Method == http.MethodPatch {
			content["application/merge-patch+json"] = reference(name)
		}
		operation["requestBody"] = object{"required": field.Type.Kind() != reflect.Pointer, "content": content}
	}
	name := s.Name() + "_answer"
	schemas[name] = OutputSchema(s)
	operation["responses"] = object{
		strconv.Itoa(s.Status): object{"description": "Done.",
			"content": object{"application/json": reference(name)}},
		"default": object{"description": "Refused.",
			"content": object{"application/problem+json": reference("Problem")}},
	}
	return operation
}

// security returns the scopes of which a token must have one. A GET that is about several nouns needs the scopes of
// all.
func security(s *Spec) (needed []object) {
	all := []string{}
	for _, noun := range s.nouns() {
		name := "cardea:" + string(noun.Held()) + ":" + string(s.access())
		needed, all = append(needed, object{"token": []string{name}}), append(all, name)
	}
	if s.Method == http.MethodGet {
		return []object{{"token": all}}
	}
	return needed
}

func reference(name string) object {
	return object{"schema": object{"$ref": "#/components/schemas/" + name}}
}
