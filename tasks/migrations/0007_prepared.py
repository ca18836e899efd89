import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0006_operation_log'),
    ]

    operations = [
        migrations.AddField(
            model_name='repo',
            name='prepares',
            field=models.BooleanField(default=True),
        ),
        migrations.AddField(
            model_name='preparedenvironment',
            name='template',
            field=models.CharField(blank=True, max_length=300),
        ),
        migrations.AddField(
            model_name='preparedenvironment',
            name='run',
            field=models.OneToOneField(
                blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='prepares', to='tasks.run'
            ),
        ),
    ]
