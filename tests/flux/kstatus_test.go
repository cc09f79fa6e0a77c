// Package flux holds what the operator writes against what Flux reads out of it: health by kstatus, with the library
// that Flux uses.
package flux

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

// The operator's objects, each under what it shows. The Rust tests write them.
func objects(t *testing.T) map[string]*unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile("testdata/objects.json")
	if err != nil {
		t.Fatal(err)
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		t.Fatal(err)
	}
	all := make(map[string]*unstructured.Unstructured)
	for name, one := range raw {
		// With the reader of Kubernetes' own types: numbers are then what the library expects.
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(one); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[name] = object
	}
	return all
}

// What a person judged each of them to be.
func expected(t *testing.T) map[string]status.Status {
	t.Helper()
	text, err := os.ReadFile("health.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]status.Status)
	for _, line := range strings.Split(string(text), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		words := strings.Fields(line)
		if len(words) != 4 {
			t.Fatalf("health.txt: %q is not kind, standing, reason and health", line)
		}
		name := strings.Join(words[:3], " ")
		if _, twice := all[name]; twice {
			t.Errorf("health.txt has %s twice", name)
		}
		all[name] = status.Status(words[3])
	}
	return all
}

func TestHealthIsWhatAPersonJudged(t *testing.T) {
	found, judged := objects(t), expected(t)
	if len(found) < 100 {
		t.Errorf("only %d objects", len(found))
	}
	for name := range judged {
		if found[name] == nil {
			t.Errorf("health.txt: %s is no longer written", name)
		}
	}
	for name, object := range found {
		t.Run(name, func(t *testing.T) {
			want, known := judged[name]
			if !known {
				t.Fatal("nobody has judged it: add it to health.txt")
			}
			result, err := status.Compute(object)
			if err != nil {
				t.Fatal(err)
			}
			if result.Status != want {
				t.Errorf("is %s (%s), and not %s", result.Status, result.Message, want)
			}
		})
	}
}

// Without the definition's default nothing would wait for an object that the operator has not seen.
func TestAnObjectWithoutAnyStatusWouldPassAtOnce(t *testing.T) {
	for _, kind := range []string{"FirmwareRollout", "OTAAccount"} {
		object := objects(t)[kind+" - Unobserved"].DeepCopy()
		unstructured.RemoveNestedField(object.Object, "status")
		result, err := status.Compute(object)
		if err != nil {
			t.Fatal(err)
		}
		if result.Status != status.CurrentStatus {
			t.Errorf("%s is %s: the default in the definitions can go", kind, result.Status)
		}
	}
}
