package kubernetes

import (
	"testing"
)

// TestConfiguration has a config map, a secret and the pod's own fields in volumes
// and variables, and what is changed later in the volumes.
func TestConfiguration(t *testing.T) {
	each(t, func(s *space) {
		s.kubectl("create", "configmap", "settings", "--from-literal=color=red", "--from-literal=file=one")
		s.kubectl("create", "secret", "generic", "hidden", "--from-literal=word=sesame")
		s.pod("p", `
volumes:
- {name: settings, configMap: {name: settings}}
- {name: one, configMap: {name: settings, items: [{key: file, path: file}]}}
- {name: hidden, secret: {secretName: hidden, defaultMode: 0400}}
- name: all
  projected:
    sources:
    - {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
    - {serviceAccountToken: {path: token, expirationSeconds: 3600, audience: someone}}
containers:
- name: main
  image: IMAGE
  env:
  - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
  - {name: WORD, valueFrom: {secretKeyRef: {name: hidden, key: word}}}
  - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  - {name: ADDRESS, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
  - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
  resources: {limits: {memory: 64Mi}}
  volumeMounts:
  - {name: settings, mountPath: /settings}
  - {name: one, mountPath: /alone, subPath: file}
  - {name: hidden, mountPath: /hidden}
  - {name: all, mountPath: /all}
`)
		s.ready("p")
		s.expect("variables", s.run("p", "echo $COLOR $WORD $POD $ADDRESS $LIMIT"), "red sesame p "+s.get("pod/p", ".status.podIP")+" 67108864")
		s.expect("files", s.run("p", "cat /settings/color; echo; cat /hidden/word; echo; stat -Lc %a /hidden/word; cat /all/labels; echo; cut -c1-3 /all/token"),
			"red\nsesame\n400\napp=\"p\"\neyJ")
		s.expect("subPath", s.run("p", "cat /alone"), "one")
		s.expect("own account", s.run("p", "cat /var/run/secrets/kubernetes.io/serviceaccount/namespace"), s.name)
		s.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {color: blue, file: two}\n")
		s.kubectl("label", "pod", "p", "later=yes")
		s.kubectl("patch", "secret", "hidden", "-p", `{"stringData": {"word": "changed"}}`)
		s.run("p", "until grep -q blue /settings/color && grep -q later /all/labels && grep -q changed /hidden/word; do sleep 0.5; done")
		s.expect("subPath later", s.run("p", "cat /alone"), "one")
	})
}

// TestEmptyDir is shared by containers, on disk and in memory, the latter within
// its limit, and gone with the pod.
func TestEmptyDir(t *testing.T) {
	each(t, func(s *space) {
		s.pod("p", `
volumes:
- {name: disk, emptyDir: {}}
- {name: memory, emptyDir: {medium: Memory, sizeLimit: 8Mi}}
containers:
- {name: main, image: IMAGE, volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}]}
- {name: other, image: IMAGE, volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}]}
`)
		s.ready("p")
		s.run("p", "echo disk >/disk/file; echo memory >/memory/file")
		s.expect("in the other container", s.kubectl("exec", "p", "-c", "other", "--", "sh", "-c", "cat /disk/file /memory/file"), "disk\nmemory")
		s.expect("mode", s.run("p", "stat -c %a /disk"), "777")
		s.expect("over the limit", s.run("p", "dd if=/dev/zero of=/memory/full bs=1M count=12 2>/dev/null && echo fits || echo full"), "full")
	})
}

// TestHostPath shares directories and single files of the host, read-only where
// that is said, with subPath.
func TestHostPath(t *testing.T) {
	each(t, func(s *space) {
		dir := t.TempDir()
		s.pod("p", `
volumes:
- {name: dir, hostPath: {path: `+dir+`}}
- {name: made, hostPath: {path: `+dir+`/made/here, type: DirectoryOrCreate}}
- {name: file, hostPath: {path: `+dir+`/file, type: FileOrCreate}}
containers:
- name: main
  image: IMAGE
  volumeMounts:
  - {name: dir, mountPath: /ro, readOnly: true}
  - {name: dir, mountPath: /sub, subPathExpr: "sub/$(HOSTNAME)"}
  - {name: made, mountPath: /made}
  - {name: file, mountPath: /file}
  env: [{name: HOSTNAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
`)
		s.ready("p")
		s.expect("read-only", s.run("p", "touch /ro/x 2>/dev/null || echo refused"), "refused")
		s.run("p", "echo sub >/sub/x; echo made >/made/x; echo file >/file")
		s.expect("on the host", readFile(s, dir+"/sub/p/x")+readFile(s, dir+"/made/here/x")+readFile(s, dir+"/file"), "sub\nmade\nfile")
	})
}
