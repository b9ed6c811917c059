apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: web
  namespace: default
spec:
  selector:
    matchLabels:
      app: web
  template:
    metadata:
      labels:
        app: web
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: ${image}
        imagePullPolicy: IfNotPresent
        # Without it, the pods get no processor time while the machine is busy.
        resources:
          requests:
            cpu: 50m
            memory: 16Mi
        command: ["/bin/sh", "-ec", "mkdir -p /tmp/web; hostname >/tmp/web/index.html; exec httpd -f -p 8080 -h /tmp/web"]
        ports:
        - name: http
          containerPort: 8080
        readinessProbe:
          httpGet:
            path: /
            port: http
          periodSeconds: 5
---
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: default
spec:
  type: NodePort
  selector:
    app: web
  ports:
  - name: http
    port: 80
    targetPort: http
    nodePort: 30080
