package policy

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// Everything a policy can say stands in docs/policy.md.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	docs := string(text)
	for _, v := range variables {
		if !strings.Contains(docs, "`"+v.Name+"`") || v.Doc == "" || v.kind.String() == "" {
			t.Errorf("variable %s is not documented", v.Name)
		}
	}
	for f := range reflect.TypeFor[AllowSpec]().Fields() {
		if name := f.Tag.Get("yaml"); !strings.Contains(docs, "`"+name+"`") {
			t.Errorf("demand %s is not documented", name)
		}
	}
	for k := ShadowDenies; k <= OtherObserved; k++ {
		if !strings.Contains(docs, "`"+k.String()+"`") {
			t.Errorf("difference %s is not documented", k)
		}
	}
}
