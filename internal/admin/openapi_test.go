package admin

//go:generate go test -run ^TestOpenAPI$ -update .

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
)

var update = flag.Bool("update", false, "write openapi.json anew")

type object = map[string]any

// The committed description is the one of the routes and their types. That
// the server also answers so is tested in internal/service.
func TestOpenAPI(t *testing.T) {
	s := New(Options{Hub: NewHub(), Metrics: http.NotFoundHandler(), Log: zaptest.NewLogger(t)})
	want, err := json.MarshalIndent(describe(s.list()), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile("openapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("openapi.json is not what the server does: go generate ./internal/admin")
	}
}

// describe makes an OpenAPI 3.1 document.
func describe(routes []route) object {
	schemas, paths := object{}, object{}
	for _, r := range routes {
		path := strings.ReplaceAll(r.path, "...}", "}")
		op := object{"summary": r.summary, "operationId": operation(r.method, path), "responses": responses(r, schemas)}
		if p := parameters(path, r.query); len(p) > 0 {
			op["parameters"] = p
		}
		if r.body != nil {
			op["requestBody"] = object{"required": true, "content": content("application/json", r.body, schemas)}
		}
		switch {
		case r.open:
			op["security"] = []any{}
		case r.socketOnly:
			op["description"] = "Only on the unix socket."
		}
		item, ok := paths[path].(object)
		if !ok {
			item = object{}
			paths[path] = item
		}
		item[strings.ToLower(r.method)] = op
	}
	return object{
		"openapi": "3.1.0",
		"info": object{
			"title": "sslgate", "version": fmt.Sprint(apiVersion),
			"description": "Fields are only ever added within a version. Texts that a peer sent are as they came: escape them where they are shown.",
		},
		"paths":    paths,
		"security": []any{object{"token": []any{}}},
		"components": object{
			"schemas":         schemas,
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer", "description": "What admin.token_file holds. The unix socket asks for none."}},
		},
	}
}

func operation(method, path string) string {
	name := strings.ToLower(method)
	for _, part := range strings.FieldsFunc(strings.TrimPrefix(path, "/v1"), func(r rune) bool { return strings.ContainsRune("/{}-.", r) }) {
		name += strings.ToUpper(part[:1]) + part[1:]
	}
	return name
}

func parameters(path string, query []param) []any {
	var all []any
	if _, rest, ok := strings.Cut(path, "{"); ok {
		name, _, _ := strings.Cut(rest, "}")
		all = append(all, object{"name": name, "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, p := range query {
		all = append(all, object{"name": p.name, "in": "query", "description": p.doc, "schema": object{"type": p.kind}})
	}
	return all
}

func responses(r route, schemas object) object {
	all := object{}
	for _, a := range r.answers {
		kind := a.content
		if kind == "" {
			kind = "application/json"
		}
		made := object{"description": a.doc, "content": content(kind, a.body, schemas)}
		if before, ok := all[fmt.Sprint(a.code)].(object); ok { // the same in another form
			made["description"] = before["description"].(string) + "; " + a.doc
			maps.Copy(made["content"].(object), before["content"].(object))
		}
		all[fmt.Sprint(a.code)] = made
	}
	if !r.socketOnly {
		all["403"] = object{"description": "a request of another web page (loopback only)", "content": content("application/json", Failure{}, schemas)}
		all["421"] = object{"description": "the header Host names somebody else (loopback only)", "content": content("application/json", Failure{}, schemas)}
	}
	if !r.open && !r.socketOnly {
		all["401"] = object{"description": "no token, or a wrong one (loopback only)", "content": content("application/json", Failure{}, schemas)}
	}
	return all
}

func content(kind string, body any, schemas object) object {
	if body == nil {
		return object{kind: object{}}
	}
	return object{kind: object{"schema": schemaOf(reflect.TypeOf(body), schemas)}}
}

func schemaOf(t reflect.Type, schemas object) object {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[json.RawMessage]():
		return object{"type": "object", "description": "a record as in the audit file: docs/audit.md"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem(), schemas)
	case reflect.Slice:
		return object{"type": "array", "items": schemaOf(t.Elem(), schemas)}
	case reflect.Map:
		return object{"type": "object"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.Struct:
		ref := object{"$ref": "#/components/schemas/" + t.Name()}
		if _, ok := schemas[t.Name()]; ok {
			return ref
		}
		properties, required := object{}, []any{}
		schemas[t.Name()] = object{} // in case it holds itself
		for i := range t.NumField() {
			name, opts, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			if name == "" {
				panic(t.Name() + "." + t.Field(i).Name + " has no JSON name")
			}
			properties[name] = schemaOf(t.Field(i).Type, schemas)
			if opts != "omitempty" {
				required = append(required, name)
			}
		}
		schemas[t.Name()] = object{"type": "object", "properties": properties, "required": required}
		return ref
	default:
		return object{"type": "integer"}
	}
}
