// Command charts checks what deploys Cardea in containers: that a Compose file is one, and that each object of the Helm
// chart is of a known kind and has only fields of that kind, each once.
//
//	charts compose FILE
//	charts helm FOLDER
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
)

func main() {
	err := errors.New("usage: charts compose FILE, or charts helm FOLDER")
	switch {
	case len(os.Args) == 3 && os.Args[1] == "compose":
		err = compose(os.Args[2])
	case len(os.Args) == 3 && os.Args[1] == "helm":
		err = helm(os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "charts:", err)
		os.Exit(1)
	}
}

// compose returns an error if file is not a Compose file, by its schema and its references.
func compose(file string) error {
	options, err := cli.NewProjectOptions([]string{file}, cli.WithOsEnv)
	if err != nil {
		return err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	fmt.Println(file, "has the services", project.ServiceNames())
	return nil
}

// helm returns an error if the chart in folder cannot be rendered with the least values and with all that is optional,
// if helm lint warns of it, if what it renders are not objects of Kubernetes, or if it renders without an issuer.
func helm(folder string) error {
	c, err := loader.Load(folder)
	if err != nil {
		return err
	}
	least := map[string]any{"issuer": "https://auth.example.com"}
	all := map[string]any{
		"issuer": "https://auth.example.com", "metrics": true,
		"ingress": map[string]any{"enabled": true, "className": "nginx",
			"annotations": map[string]any{"a": "b"}},
		"trustedProxies": []any{"10.0.0.0/8", "192.0.2.0/24"},
		"env":            map[string]any{"CARDEA_TOKENS_ACCESS_TTL": "5m"},
		"podAnnotations": map[string]any{"a": "b"}, "nodeSelector": map[string]any{"a": "b"},
		"tolerations": []any{map[string]any{"key": "a", "operator": "Exists"}},
		"affinity":    map[string]any{"nodeAffinity": map[string]any{}},
	}
	for _, values := range []map[string]any{least, all} {
		if err := linted(folder, values); err != nil {
			return err
		}
		files, err := render(c, values)
		if err != nil {
			return err
		}
		for name, text := range files {
			if !strings.HasSuffix(name, ".yaml") || strings.TrimSpace(text) == "" {
				continue
			}
			if err := objects(strings.NewReader(text)); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if _, err := render(c, nil); err == nil || !strings.Contains(err.Error(), "issuer is empty") {
		return fmt.Errorf("without an issuer: %v", err)
	}
	return nil
}

// linted returns an error for what helm lint warns of.
func linted(folder string, values map[string]any) (err error) {
	for _, m := range lint.RunAll(folder, values, "test").Messages {
		if m.Severity >= support.WarningSev {
			err = errors.Join(err, m)
		}
	}
	return err
}

func render(c *chart.Chart, values map[string]any) (map[string]string, error) {
	release := common.ReleaseOptions{Name: "test", Namespace: "test", IsInstall: true}
	v, err := util.ToRenderValues(c, values, release, nil)
	if err != nil {
		return nil, err
	}
	return engine.Render(c, v)
}

// objects returns an error if an object of a YAML stream has an unknown kind, an unknown field, or a field twice.
func objects(in io.Reader) error {
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme.Scheme, scheme.Scheme,
		json.SerializerOptions{Yaml: true, Strict: true})
	documents := yaml.NewYAMLReader(bufio.NewReader(in))
	n := 0
	for {
		text, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		_, kind, err := strict.Decode(text, nil, nil)
		if err != nil {
			return fmt.Errorf("%w in\n%s", err, text)
		}
		fmt.Println(kind.Kind)
		n++
	}
	if n == 0 {
		return errors.New("there are no objects")
	}
	return nil
}
