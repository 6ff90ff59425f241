package api_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
	"gopkg.in/yaml.v3"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
)

// document is asyncapi.yaml as plain values.
func document(t *testing.T) map[string]any {
	t.Helper()
	text, err := os.ReadFile("asyncapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(doc) // as JSON has it: no other kinds of numbers and maps
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return v.(map[string]any)
}

func schema(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7) // AsyncAPI's
	if err := c.AddResource("asyncapi.json", document(t)); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("asyncapi.json#/components/schemas/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fill gives every field a value that is not zero, so that none is left out of the test.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[json.RawMessage]() {
			v.SetBytes([]byte(`{"x":1}`))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		e := reflect.New(v.Type().Elem()).Elem()
		fill(e)
		v.SetMapIndex(reflect.ValueOf("front"), e)
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(0.5)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.Interface:
		v.Set(reflect.ValueOf("x"))
	default:
		panic("fill: " + v.Kind().String())
	}
}

func filled[T any](set func(*T)) []byte {
	var v T
	fill(reflect.ValueOf(&v).Elem())
	set(&v)
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// messages are texts as the code makes them, by the name of their schema.
func messages(t *testing.T) map[string][]byte {
	tok, err := api.AppendTokensJSON(nil, tokens(t, 4, 4))
	if err != nil {
		t.Fatal(err)
	}
	emb, err := api.AppendEmbeddingJSON(nil, embedding(t, toklipv1.DType_DTYPE_FP16, true))
	if err != nil {
		t.Fatal(err)
	}
	labels, err := api.AppendLabelsJSON(nil, &toklipv1.Labels{Header: header(t), Labels: []*toklipv1.Label{{Label: "x", Score: 0.5, Present: true, SinceNs: 1, Region: "door"}}})
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"tokens": tok, "embedding": emb, "labels": labels,
		"info": filled(func(i *api.Info) {
			i.EmbeddingType, i.Cameras[0].Resize, i.Cameras[0].Publish = "fp16", "squash", []string{"tokens"}
		}),
		"event":       filled(func(e *api.LabelEvent) { e.Event = api.LabelGone }),
		"state":       filled(func(s *api.State) { s.State = api.StateBuildingEngine }),
		"status":      filled(func(s *api.CameraStatus) { s.Status = api.CameraNoPicture }),
		"metrics":     filled(func(*api.Metrics) {}),
		"calibration": filled(func(*api.Calibration) {}),
		"command":     filled(func(*api.Command) {}),
		"reply":       filled(func(*api.Reply) {}),
	}
}

func TestMessagesFollowDocument(t *testing.T) {
	doc := document(t)
	for name, text := range messages(t) {
		t.Run(name, func(t *testing.T) {
			s := schema(t, name)
			v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Validate(v); err != nil {
				t.Errorf("%v\nin %s", err, text)
			}
			for _, path := range undocumented(doc, map[string]any{"$ref": "#/components/schemas/" + name}, v, name) {
				t.Errorf("%s is written but not in asyncapi.yaml", path)
			}
			// And the schema is not one that takes anything: each required member, left out, is
			// missed, and each of another type is refused.
			object := v.(map[string]any)
			required := s.Required
			if s.Ref != nil {
				required = s.Ref.Required
			}
			if len(required) == 0 {
				t.Fatal("the schema requires nothing")
			}
			for _, member := range required {
				value := object[member]
				delete(object, member)
				if s.Validate(object) == nil {
					t.Errorf("a message without %q passes", member)
				}
				object[member] = map[string]any{"unexpected": []any{}}
				if s.Validate(object) == nil {
					t.Errorf("a message whose %q is something else passes", member)
				}
				object[member] = value
			}
		})
	}
}

// undocumented lists members of value that its schema does not name.
func undocumented(doc, schema map[string]any, value any, path string) []string {
	if ref, ok := schema["$ref"].(string); ok {
		var at any = doc
		for _, part := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
			at = at.(map[string]any)[part]
		}
		return undocumented(doc, at.(map[string]any), value, path)
	}
	var out []string
	switch value := value.(type) {
	case map[string]any:
		properties, known := schema["properties"].(map[string]any)
		rest, open := schema["additionalProperties"].(map[string]any)
		for name, v := range value {
			sub, ok := properties[name].(map[string]any)
			switch {
			case ok:
				out = append(out, undocumented(doc, sub, v, path+"."+name)...)
			case open:
				out = append(out, undocumented(doc, rest, v, path+"."+name)...)
			case known:
				out = append(out, path+"."+name)
			}
		}
	case []any:
		if items, ok := schema["items"].(map[string]any); ok {
			for i, v := range value {
				out = append(out, undocumented(doc, items, v, fmt.Sprintf("%s[%d]", path, i))...)
			}
		}
	}
	return out
}

// Every topic the code can build is a channel, every channel a topic; what is sent and
// received, retained or not, is what the code does.
func TestTopicsFollowDocument(t *testing.T) {
	topics, err := api.NewTopics("", "robot-1")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, k := range api.NodeKinds() {
		topic := "toklip/{node}/" + string(k)
		if k == api.KindCommand {
			topic += "/{verb}"
		}
		want = append(want, topic)
	}
	for _, k := range api.CameraKinds() {
		want = append(want, "toklip/{node}/camera/{camera}/"+string(k))
		if topic := topics.Camera("front", k); topic != strings.NewReplacer("{node}", "robot-1", "{camera}", "front").Replace(want[len(want)-1]) {
			t.Errorf("the code builds %s", topic)
		}
	}
	var got []string
	doc := document(t)
	retained := map[string]bool{}
	for name, channel := range doc["channels"].(map[string]any) {
		address, ok := channel.(map[string]any)["address"].(string)
		if !ok {
			continue // the reply, whose topic the sender names
		}
		got = append(got, address)
		for _, op := range doc["operations"].(map[string]any) {
			op := op.(map[string]any)
			if op["channel"].(map[string]any)["$ref"] == "#/channels/"+name {
				retained[address] = op["bindings"].(map[string]any)["mqtt"].(map[string]any)["retain"].(bool)
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("channels are\n%s\nthe code knows\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, address := range got {
		kind := api.Kind(address[strings.LastIndexByte(address, '/')+1:])
		is := slices.Contains([]api.Kind{api.KindAvailability, api.KindInfo, api.KindState, api.KindStatus, api.KindCalibration}, kind)
		if r, ok := retained[address]; !ok || r != is {
			t.Errorf("%s: an operation says retain %v (found %v), the code %v", address, r, ok, is)
		}
	}
	for _, m := range []string{"tokens", "embedding", "features", "labels", "regions"} {
		x := doc["components"].(map[string]any)["messages"].(map[string]any)[m].(map[string]any)["x-protobuf"].(map[string]any)
		name := x["message"].(string)
		file := toklipv1.File_toklip_v1_toklip_proto
		if file.Path() != x["file"] {
			t.Errorf("%s: schema file is %v", m, x["file"])
		}
		if short, ok := strings.CutPrefix(name, string(file.Package())+"."); !ok || file.Messages().ByName(protoreflect.Name(short)) == nil {
			t.Errorf("%s: no message %s in the protobuf schema", m, name)
		}
	}
}

// AsyncAPI's own parser accepts the document.
func TestDocumentIsValidAsyncAPI(t *testing.T) {
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("npm is not installed; tools/asyncapi.sh needs it")
	}
	if testing.Short() {
		t.Skip("installs the parser the first time")
	}
	check(t, "../tools/asyncapi.sh")
}

// check runs a script that exits with 77 where it cannot do its work for want of a network.
func check(t *testing.T, script string, args ...string) {
	t.Helper()
	out, err := exec.Command(script, args...).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == 77 && os.Getenv("CI") == "":
		t.Skipf("%s cannot be downloaded here:\n%s", script, out)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	}
}
